"""Where a run takes place: accelerator, devices and strategy of the Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.strategies import InPlaceSingleDevice

PLACES = frozenset({"devices", "strategy", "accelerator", "num_nodes"})
"""The Trainer arguments that say where."""


def placement(brain: BrainProtocol, user: Mapping[str, Any]) -> dict[str, Any]:
    """Where to run: on the Brain's device, unless the user names a strategy or more devices."""
    device = torch.device(brain.device)
    arguments: dict[str, Any] = {
        "accelerator": "gpu" if device.type == "cuda" else device.type,
        "devices": [device.index or 0] if device.type == "cuda" else 1,
    }
    if not PLACES & user.keys():
        arguments["strategy"] = InPlaceSingleDevice(device)
    return arguments
