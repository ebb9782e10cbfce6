"""Values of Trainer arguments, checked against the types that ``lightning.Trainer`` declares."""

from __future__ import annotations

import inspect
import numbers
import os
import re
import types
import typing
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from brain_lightning.ground.errors import OptionError

_DURATION = re.compile(r"\d+:\d\d:\d\d:\d\d")

_ANOTHER_WAY = {
    "max_time": ' Write "DD:HH:MM:SS" (in YAML, with the quotes) or {hours: 2}.',
    "val_check_interval": " Write a number of batches, a share of the epoch such as 0.25, or a "
    'duration: "DD:HH:MM:SS" (in YAML, with the quotes) or {hours: 2}.',
}
"""What to add to the message about an argument whose value is easily written wrongly."""

_DIVISORS = frozenset({"val_check_interval", "check_val_every_n_epoch"})
"""Intervals: zero is none, and Lightning would divide by it in the middle of the run."""


def with_checked_types(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return Trainer arguments with values of the types that they must have.

    Only arguments of plain types are looked at: numbers, text, switches, durations. Where a whole
    number is expected, 1000.0 becomes 1000, for YAML reads 1e3 so.

    Raises:
        OptionError: a value is of another type; says which one is expected.
    """
    return {name: _checked(name, value) for name, value in mapping.items()}


def default_of(name: str) -> Any:
    """Return Lightning's default for an argument, or None where there is no such argument."""
    parameter = inspect.signature(pl.Trainer.__init__).parameters.get(name)
    return None if parameter is None else parameter.default


def _checked(name: str, value: Any) -> Any:
    duration = name in _ANOTHER_WAY and isinstance(value, str)
    if duration and not _DURATION.fullmatch(value.strip()):
        raise OptionError(f"trainer: {name} is {value!r}.{_ANOTHER_WAY[name]}")
    if name in _DIVISORS and isinstance(value, numbers.Real) and value <= 0:
        raise OptionError(
            f"trainer: {name} is {value!r}; it must be more than zero. For training without "
            "validation write limit_val_batches: 0."
        )
    expected = _members(name)
    if not all(_is_plain(each) for each in expected):
        return value  # takes objects, which have their own checks
    if any(_fits(value, each) for each in expected):
        return value
    if int in expected and isinstance(value, float) and value.is_integer():
        return int(value)
    described = _joined([_described(each) for each in expected if each is not type(None)])
    raise OptionError(
        f"trainer: {name} is {value!r} (of type {type(value).__name__}); it must be {described}."
        + _ANOTHER_WAY.get(name, "")
    )


@cache
def _annotations() -> dict[str, Any]:
    return typing.get_type_hints(pl.Trainer.__init__)


def _members(name: str) -> tuple[Any, ...]:
    annotation = _annotations().get(name, Any)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


_PLAIN = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    dict: "a mapping of names to numbers",
    list: "a list of integers",
    timedelta: "a timedelta",
    Path: "a path",
    type(None): "nothing",
}
"""Type -> how a message calls it."""


def _is_plain(expected: Any) -> bool:
    origin = typing.get_origin(expected)
    return origin is typing.Literal or (origin or expected) in _PLAIN


def _described(expected: Any) -> str:
    if typing.get_origin(expected) is typing.Literal:
        return _joined([repr(each) for each in typing.get_args(expected)])
    return _PLAIN[typing.get_origin(expected) or expected]


def _joined(words: list[str]) -> str:
    *first, last = dict.fromkeys(words)
    return f"{', '.join(first)} or {last}" if first else last


def _fits(value: Any, expected: Any) -> bool:
    origin = typing.get_origin(expected)
    if origin is typing.Literal:
        return value in typing.get_args(expected)
    if expected in (int, float):
        kind = numbers.Integral if expected is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool)
    if expected is Path:
        return isinstance(value, os.PathLike)
    return isinstance(value, Mapping if origin is dict else origin or expected)
