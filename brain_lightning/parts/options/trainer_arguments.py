"""Arguments of ``lightning.Trainer`` as a command line has them."""

from __future__ import annotations

from typing import Any

import ruamel.yaml
from ruamel.yaml.error import YAMLError


def read_scalar(text: str) -> Any:
    """Read a value as HyperPyYAML would (YAML 1.2: ``1e-3`` is a number, ``yes`` a string).

    Raises:
        ValueError: the text is no YAML value.
    """
    if text.startswith("!"):
        raise ValueError(
            f"{text!r} names an object, which a command line cannot make; write it into the file "
            "of hyperparameters, under trainer"
        )
    try:
        return ruamel.yaml.YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        problem = getattr(error, "problem", None) or type(error).__name__
        raise ValueError(
            f"{text!r} is no YAML value ({problem}); a string with special characters needs "
            "quotes inside those of the shell"
        ) from error


def nested(dotted_key: str, value: Any) -> dict[str, Any]:
    """Return ``{"a": {"b": value}}`` for the key ``a.b``.

    Raises:
        ValueError: a part of the key is empty.
    """
    parts = dotted_key.split(".")
    if not all(parts):
        raise ValueError(
            f"trainer.{dotted_key} has an empty part; write it as trainer.KEY or trainer.KEY.KEY."
        )
    for part in reversed(parts):
        value = {part: value}
    assert isinstance(value, dict)
    return value
