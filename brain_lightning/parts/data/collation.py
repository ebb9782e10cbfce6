"""Stacking of the values in a batch that are not padded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

# numpy's type codes for bytes, text and objects: what torch has no tensor for.
_NO_TENSOR_TYPE = re.compile(r"[SaUO]")
_NUMPY_TEXT = ("str_", "string_", "bytes_")


def stack_if_possible(values: Sequence[Any]) -> Any:
    """Make one tensor of a batch's values for one key, or return them as they are.

    Tensors and numpy arrays of equal shape are stacked, numbers become one tensor (Python floats
    in double precision). Anything else, and values that do not go together, stay as they are.

    Args:
        values: at least one value; the first decides which kind they are.
    """
    first = values[0]
    try:
        if isinstance(first, torch.Tensor):
            return torch.stack(list(values), 0)
        if type(first).__module__ == "numpy":
            return _stack_numpy(values)
        if isinstance(first, float):
            return torch.tensor(values, dtype=torch.float64)
        if isinstance(first, int):
            return torch.tensor(values)
    except (RuntimeError, TypeError, ValueError):
        # Unequal sizes or kinds: the batch keeps the list, as its documentation says.
        return values
    return values


def _stack_numpy(values: Sequence[Any]) -> Any:
    first = values[0]
    if type(first).__name__ in _NUMPY_TEXT:
        return values
    if type(first).__name__ in ("ndarray", "memmap"):
        if _NO_TENSOR_TYPE.search(first.dtype.str) is not None:
            return values
        return stack_if_possible([torch.as_tensor(value) for value in values])
    if getattr(first, "shape", None) == ():
        return torch.as_tensor(values)
    return values
