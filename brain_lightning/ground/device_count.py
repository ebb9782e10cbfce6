"""How many processes the Trainer argument ``devices`` asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brain_lightning.ground.errors import OptionError


def number_of_processes(trainer: Mapping[str, Any]) -> int:
    """Return how many processes ``trainer.devices`` asks for: 4, "4", [0, 2], "0,2", "auto", -1.

    Raises
    ------
    ValueError
        When it is none of these.
    """
    devices = trainer.get("devices", 1)
    if isinstance(devices, str) and "," in devices:
        devices = [part for part in devices.split(",") if part.strip()]
    if isinstance(devices, (list, tuple)):
        return len(devices)
    if devices in ("auto", "-1", -1):
        return max(1, _device_count(trainer))
    return as_count(devices, "devices")


def as_count(value: Any, name: str) -> int:
    """Return a Trainer argument as a number, 1 or more.

    Raises
    ------
    ValueError
        When it is something else.
    """
    try:
        count = int(value)
    except (TypeError, ValueError):
        count = 0
    if count < 1 or isinstance(value, (bool, float)):
        raise OptionError(
            f"trainer: {name}={value!r} is no number of {name}. Give 1 or more"
            + (', a list of device numbers, or "auto".' if name == "devices" else ".")
        )
    return count


def _device_count(trainer: Mapping[str, Any]) -> int:
    import torch  # late: the decision is made before anything else is imported

    return 1 if trainer.get("accelerator") == "cpu" else torch.cuda.device_count()
