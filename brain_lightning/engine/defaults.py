"""Tells a Brain's own methods from a recipe's overrides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

# The functions themselves, not a mark on them: functools.wraps copies marks to a recipe's wrapper.
_defaults: set[Callable[..., Any]] = set()


def brain_default(function: Function) -> Function:
    """Note a method of the base class as the default that recipes may override."""
    _defaults.add(function)
    return function


def is_overridden(brain: object, name: str) -> bool:
    """Whether a recipe replaced the method ``name``, in its class or on the object."""
    method = getattr(brain, name)
    return getattr(method, "__func__", method) not in _defaults


def overridden_places(brain: object, names: tuple[str, ...]) -> dict[str, str]:
    """Those of ``names`` that the recipe overrides, in order, and where: "train.py:30" or ""."""
    return {name: _place(getattr(brain, name)) for name in names if is_overridden(brain, name)}


def _place(method: Callable[..., Any]) -> str:
    function: Any = getattr(method, "__func__", method)
    # Into a decorator's wrapper, but not through one that the recipe put around the default.
    while getattr(function, "__wrapped__", None) not in (None, *_defaults):
        function = function.__wrapped__
    code = getattr(function, "__code__", None)
    return "" if code is None else f"{Path(code.co_filename).name}:{code.co_firstlineno}"
