"""A command line that overrides a key which the file of hyperparameters does not have."""

from __future__ import annotations

import re
from types import TracebackType

from brain_lightning.entry.nearest_option import nearest_option

_MESSAGE = re.compile(r"Override '(.+?)' not found in: \[(.*)\]")
_QUOTED = re.compile(r"'(.+?)'")


def add_hint(error: KeyError) -> None:
    """Add to HyperPyYAML's error which option or key may have been meant.

    Python shows it below the error, from 3.11 on.
    """
    found = _MESSAGE.fullmatch(str(error.args[0])) if error.args else None
    if found is None or not _is_raised_by("hyperpyyaml.core", error.__traceback__):
        return
    near = nearest_option(found[1], _QUOTED.findall(found[2]))
    advice = f" Did you mean --{near}?" if near else ""
    if hasattr(error, "add_note"):
        error.add_note(
            f"--{found[1]} is no run option, and the file of hyperparameters has no such key."
            f"{advice}"
        )


def _is_raised_by(module: str, traceback: TracebackType | None) -> bool:
    name = ""
    while traceback is not None:
        name = traceback.tb_frame.f_globals.get("__name__", "")
        traceback = traceback.tb_next
    return name == module
