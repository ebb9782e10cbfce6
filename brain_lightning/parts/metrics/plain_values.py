"""Whether a value that is no container was changed."""

from __future__ import annotations

import io
from typing import Any

import torch

LARGEST_COPY = 2**20
"""Elements of a tensor up to which its values are compared; of a larger one only which it is."""


def copied(value: Any) -> Any:
    """Return what ``is_same`` needs to know later of a value."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone() if value.numel() <= LARGEST_COPY else None
    if isinstance(value, (set, tuple)):
        return type(value)(value) if type(value) is set else value
    if _is_array(value):
        return value.copy()
    if isinstance(value, io.IOBase):
        return _position(value)
    return value


def is_same(value: Any, before: Any, copy: Any) -> bool:
    """Whether a value is what it was.

    Args:
        value: now.
        before: the value then, which may have been changed in place.
        copy: what ``copied`` returned then.
    """
    if isinstance(value, torch.Tensor):
        return _is_same_tensor(value, before, copy)
    if isinstance(value, io.IOBase):
        return value is before and _position(value) == copy
    if type(value) is not type(before):
        return False
    if _is_array(value):
        return bool(value.dtype == copy.dtype and value.tobytes() == copy.tobytes())
    if isinstance(value, set):
        return bool(value == copy)
    return value is before or equals(value, copy)


def equals(first: Any, second: Any) -> bool:
    """Whether two plain values are the same, one that is not a number included."""
    if isinstance(first, torch.Tensor) or isinstance(second, torch.Tensor):
        both = isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)
        return both and _has_equal_elements(first, second)
    if isinstance(first, (bool, int, float, complex, str, bytes)):
        same_type = type(first) is type(second)
        return same_type and (first == second or (first != first and second != second))
    if isinstance(first, tuple) and type(first) is type(second) and len(first) == len(second):
        return all(equals(a, b) or a is b for a, b in zip(first, second, strict=True))
    return first is second


def _is_same_tensor(value: torch.Tensor, before: Any, copy: torch.Tensor | None) -> bool:
    if not isinstance(before, torch.Tensor):
        return False
    if copy is None:
        return value is before
    return _has_equal_elements(value, copy)


def _has_equal_elements(first: torch.Tensor, second: torch.Tensor) -> bool:
    if first.shape != second.shape or first.dtype != second.dtype or first.device != second.device:
        return False
    first, second = first.detach(), second.detach()
    return bool(((first == second) | ((first != first) & (second != second))).all())


def _is_array(value: Any) -> bool:
    return type(value).__module__ == "numpy" and hasattr(value, "tobytes")


def _position(file: io.IOBase) -> int:
    if file.closed:
        return -1
    try:
        return file.tell()
    except (OSError, ValueError):
        return 0  # a pipe or a terminal has none
