"""Where a run takes place: accelerator, devices and strategy of the Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.strategies import InPlaceProcessGroup, InPlaceSingleDevice
from brain_lightning.ground.ranks import ddp_prevent_block

PLACES = frozenset({"devices", "strategy", "accelerator", "num_nodes"})
"""The Trainer arguments that say where."""


def placement(brain: BrainProtocol, user: Mapping[str, Any]) -> dict[str, Any]:
    """Where to run: on the Brain's device, unless the user names a strategy or more devices."""
    device = torch.device(brain.device)
    arguments: dict[str, Any] = {
        "accelerator": "gpu" if device.type == "cuda" else device.type,
        "devices": [device.index or 0] if device.type == "cuda" else 1,
    }
    if PLACES & user.keys():
        return arguments
    if runs_among_others(brain):
        strategy = InPlaceProcessGroup(_numbered(device))
        return {**arguments, "strategy": strategy, "num_nodes": strategy.num_nodes}
    return {**arguments, "strategy": InPlaceSingleDevice(device)}


def runs_among_others(brain: BrainProtocol) -> bool:
    """Whether all processes of a group run this together.

    Not so in what one process runs alone (``run_on_main``), and when no launcher started the
    processes: SpeechBrain's Brain then neither splits the data nor wraps the modules.
    """
    return brain.distributed_launch and not ddp_prevent_block()


def _numbered(device: torch.device) -> torch.device:
    if str(device) == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return device
