"""Whether a device that was asked for is there."""

from __future__ import annotations

import torch

from brain_lightning.ground.errors import OptionError


def check_device(text: str) -> None:
    """Refuse a device that torch does not know or this machine does not have.

    Raises:
        OptionError: with what was given and what there is.
    """
    try:
        device = torch.device(text)
    except RuntimeError as error:
        raise OptionError(
            f"device is {text!r}, which torch does not know as a device. "
            "Give cpu, cuda, or a numbered one such as cuda:0."
        ) from error
    if device.type in ("cpu", "meta"):
        return
    count = _count(device.type)
    if count == 0:
        raise OptionError(
            f"device is {text!r}, but this machine has no {device.type} device that this "
            "installation of torch can use. Give another one, such as --device=cpu."
        )
    if device.index is not None and device.index >= count:
        raise OptionError(
            f"device is {text!r}, but this machine has {count} {device.type} device(s). "
            f"Give one from {device.type}:0 to {device.type}:{count - 1}."
        )


def _count(device_type: str) -> int:
    """Return how many devices of that type there are, without starting any."""
    if device_type == "cuda":
        return torch.cuda.device_count()
    if device_type == "mps":
        return int(torch.backends.mps.is_available())
    counted = getattr(getattr(torch, device_type, None), "device_count", lambda: 0)()
    assert isinstance(counted, int)
    return counted
