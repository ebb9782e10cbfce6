"""Tells a Brain's own methods from a recipe's overrides."""

from __future__ import annotations

from collections.abc import Callable
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


def overridden_among(brain: object, names: tuple[str, ...]) -> list[str]:
    """Those of ``names`` that the recipe overrides, in order."""
    return [name for name in names if is_overridden(brain, name)]
