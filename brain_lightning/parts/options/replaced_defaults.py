"""Defaults of options that hold for a while in place of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from brain_lightning.parts.options.declarations import default_values, option_fields

_replaced: dict[str, Any] = {}


def effective_defaults() -> Mapping[str, Any]:
    """Return the default of every option as it holds now."""
    return {**default_values(), **_replaced}


def replaced_values() -> Mapping[str, Any]:
    """Return the defaults that hold in place of ours; usually there are none."""
    return _replaced


@contextmanager
def replaced_defaults(values: Mapping[str, Any]) -> Iterator[None]:
    """Let these defaults hold for the whole process: under ``brain-lightning run``, SpeechBrain's.

    Raises:
        ValueError: a key is no option.
    """
    unknown = sorted(set(values) - set(option_fields()))
    if unknown:
        raise ValueError(f"There are no run options {', '.join(unknown)} to have a default.")
    before = dict(_replaced)
    _replaced.update(values)
    try:
        yield
    finally:
        _replaced.clear()
        _replaced.update(before)
