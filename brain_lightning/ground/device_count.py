"""How many processes the Trainer argument ``devices`` asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brain_lightning.ground.errors import OptionError


def number_of_processes(trainer: Mapping[str, Any]) -> int:
    """Return how many processes ``trainer.devices`` asks for: 4, "4", [0, 2], "0,2", "auto", -1.

    Raises:
        ValueError: it is none of these.
    """
    chosen = chosen_devices(trainer)
    if chosen is not None:
        return len(chosen)
    devices = trainer.get("devices", 1)
    if devices in ("auto", "-1", -1):
        return max(1, _device_count(trainer))
    return as_count(devices, "devices")


def chosen_devices(trainer: Mapping[str, Any]) -> list[int] | None:
    """Return the numbers of the devices that ``trainer.devices`` lists, or None for a count.

    Raises:
        ValueError: the list is empty, or has something else than numbers from 0, or a number twice.
    """
    devices = trainer.get("devices", 1)
    if isinstance(devices, str) and "," in devices:
        devices = [part.strip() for part in devices.split(",") if part.strip()]
    if not isinstance(devices, (list, tuple)):
        return None
    numbers = [int(each) for each in devices if str(each).isdecimal()]
    if not numbers or len(numbers) < len(devices) or len(set(numbers)) < len(numbers):
        raise OptionError(
            f"trainer: devices={trainer['devices']!r} is no list of devices. Give each number "
            'once, from 0, as in [0, 2]; or how many, or "auto".'
        )
    return numbers


def as_count(value: Any, name: str) -> int:
    """Return a Trainer argument as a number, 1 or more.

    Raises:
        ValueError: it is something else.
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
