"""Values of a recipe's as trees of tensors and plain values, which a file can hold, and back."""

from __future__ import annotations

from typing import Any

import torch

from brain_lightning.ground.stage import Stage


def to_plain(value: Any) -> Any:
    """Return a tree that a file can hold without pickled classes.

    Raises:
        TypeError: it holds something else.
    """
    if isinstance(value, torch.Tensor):
        return {"tensor": value.detach().cpu(), "on_cpu": value.device.type == "cpu"}
    if isinstance(value, Stage):
        return {"stage": value.name}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return type(value)(to_plain(each) for each in value)
    if type(value) is dict:
        return {"pairs": [(to_plain(key), to_plain(each)) for key, each in value.items()]}
    if type(value).__module__ == "numpy" and hasattr(value, "item") and value.ndim == 0:
        return value.item()
    raise TypeError(f"it holds a {type(value).__name__}")


def is_plain(value: Any) -> bool:
    """Whether a file can hold it as it is, tensors of any device included."""
    if isinstance(value, torch.Tensor) or value is None:
        return True
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(each) for key, each in value.items())
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    return type(value) in (bool, int, float, str)


def from_plain(value: Any, device: Any) -> Any:
    """Return what :func:`to_plain` was given; tensors that were on a device go to ``device``."""
    if isinstance(value, (list, tuple)):
        return type(value)(from_plain(each, device) for each in value)
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return value["tensor"] if value["on_cpu"] else value["tensor"].to(device)
    if "stage" in value:
        return Stage[value["stage"]]
    return {from_plain(key, device): from_plain(each, device) for key, each in value["pairs"]}
