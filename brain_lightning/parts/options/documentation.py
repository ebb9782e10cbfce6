"""The table of options in docs/options.md, made from their declarations."""

from __future__ import annotations

import dataclasses
from typing import Any

from brain_lightning.parts.options.declarations import (
    Profile,
    default_of,
    option_fields,
    option_of,
)

HEADER = (
    "| option | type | default | of | meaning |",
    "|---|---|---|---|---|",
)


def options_table(profile: Profile = "brain_lightning") -> str:
    """Return every option with its type, default, origin and meaning, as a Markdown table."""
    rows = (_row(name, declared, profile) for name, declared in option_fields().items())
    return "\n".join([*HEADER, *rows]) + "\n"


def _row(name: str, declared: dataclasses.Field[Any], profile: Profile) -> str:
    option = option_of(declared)
    written = f"`--{name}`" if option.on_command_line else f"`{name}`"
    origin = "SpeechBrain" if option.speechbrain else "brain_lightning"
    meaning = option.help
    if option.choices is not None:
        meaning += f" One of {', '.join(option.choices)}."
    cells = (written, f"`{declared.type}`", f"`{_default(declared, profile)}`", origin, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(declared: dataclasses.Field[Any], profile: Profile) -> str:
    default = default_of(declared, profile)
    return default if isinstance(default, str) and default else repr(default)
