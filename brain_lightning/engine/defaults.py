"""Tells a Brain's own methods from a recipe's overrides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
_MARK = "_brain_lightning_default"


def brain_default(function: Function) -> Function:
    """Mark a method of the base class as the default that recipes may override."""
    setattr(function, _MARK, True)
    return function


def is_overridden(brain: object, name: str) -> bool:
    """Whether a recipe replaced the method ``name``, in its class or on the object."""
    return not hasattr(getattr(brain, name), _MARK)


def overridden_among(brain: object, names: tuple[str, ...]) -> list[str]:
    """Those of ``names`` that the recipe overrides, in order."""
    return [name for name in names if is_overridden(brain, name)]
