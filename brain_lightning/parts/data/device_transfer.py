"""Moving and pinning of tensors inside containers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def recursive_to(data: Any, *args: Any, **kwargs: Any) -> Any:
    """Call ``to(*args, **kwargs)`` on every tensor in a value, through mappings and sequences.

    Mappings become dicts, sequences lists, named tuples keep their type. What has no ``to`` is
    returned as it is.
    """
    return _apply(data, "to", lambda part: part.to(*args, **kwargs))


def recursive_pin_memory(data: Any) -> Any:
    """Copy every tensor in a value to pinned memory, through mappings and sequences."""
    return _apply(data, "pin_memory", lambda part: part.pin_memory())


def _apply(data: Any, method: str, function: Callable[[Any], Any]) -> Any:
    if isinstance(data, (str, bytes)):  # sequences of themselves, without an end
        return data
    if isinstance(data, Mapping):
        return {key: _apply(value, method, function) for key, value in data.items()}
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(_apply(value, method, function) for value in data))
    if isinstance(data, Sequence):
        return [_apply(value, method, function) for value in data]
    return function(data) if hasattr(data, method) else data
