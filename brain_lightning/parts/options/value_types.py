"""What values an option of each type may have, and what it becomes."""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch


def checked_value(type_text: str, value: Any) -> Any:
    """Return a value as an option of that type has it.

    Args:
        type_text: the annotation of the option, such as ``int | None``.
        value: what was given. What stands in YAML for the same thing is accepted: 2.0 for 2.

    Raises:
        ValueError: the value is of another type; the message says what was expected.
    """
    wanted, _, optional = type_text.partition(" | ")
    if value is None and optional:
        return None
    return _CONVERTERS[wanted](value)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ValueError("true or false")


def _integer(value: Any) -> int:
    # SpeechBrain's parser leaves the value of --optimizer_step_limit as text.
    number = _number_from_text(value) if isinstance(value, str) else _number(value)
    if number is None or not (math.isinf(number) or number.is_integer()):
        raise ValueError("an integer")
    if math.isinf(number):  # YAML's .inf, for a count without a limit
        return sys.maxsize if number > 0 else -sys.maxsize
    return int(value)


def _float(value: Any) -> Any:
    number = _number(value)
    if number is None or math.isnan(number):
        raise ValueError("a number")
    return value  # an integer stays one, as in SpeechBrain: recipes print it


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    return float(value)


def _number_from_text(text: str) -> float | None:
    try:
        return float(int(text))
    except ValueError:
        return None


def _text(value: Any) -> str:
    if isinstance(value, str | torch.device):
        return str(value)
    raise ValueError("a string")


def _texts(value: Any) -> list[str]:
    if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
        texts = list(value)
        if all(isinstance(text, str) for text in texts):
            return texts
    raise ValueError("a list of strings")


def _mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise ValueError("a mapping")


def _names(value: Any) -> set[str]:
    return set(_texts(value))


_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "bool": _boolean,
    "int": _integer,
    "float": _float,
    "str": _text,
    "list[str]": _texts,
    "set[str]": _names,
    "dict[str, str]": _mapping,
    "dict[str, Any]": _mapping,
}
