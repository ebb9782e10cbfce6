"""A recipe that ended because the file of hyperparameters on its command line is not there."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from brain_lightning.entry.script_process import script_frames


class HyperparametersNotFoundError(FileNotFoundError, ValueError):
    """There is no file at the path that was given for the hyperparameters."""


def missing_hyperparameters(
    error: BaseException, recipe: str, arguments: Sequence[str]
) -> str | None:
    """Say what is missing where a recipe ended with just that, else return None.

    A recipe may make its file itself, so nobody can tell before it has failed: when its script
    opened the path that is its first argument, and let the error pass.

    Args:
        error: what the recipe raised.
        recipe: the script.
        arguments: its command line.
    """
    if not isinstance(error, FileNotFoundError) or list(arguments[:1]) != [error.filename]:
        return None
    given = str(error.filename)
    if os.path.exists(given) or _innermost_file(error) != os.path.abspath(recipe):
        return None
    near = _nearest_file(given, Path(recipe).parent)
    advice = f"Did you mean {near!r}?" if near else "It stands behind the recipe."
    return (
        f"There is no file of hyperparameters {given!r} (looked for at {os.path.abspath(given)}). "
        f"{advice}"
    )


def _innermost_file(error: BaseException) -> str:
    part = script_frames(error.__traceback__)
    while part is not None and part.tb_next is not None:
        part = part.tb_next
    return "" if part is None else part.tb_frame.f_code.co_filename


def _nearest_file(given: str, folder: Path) -> str | None:
    """Return the file most like it, of those beside the recipe and in the folders there."""
    names = [str(each) for kind in ("*.yaml", "*/*.yaml") for each in folder.glob(kind)]
    near = difflib.get_close_matches(given, names, n=1)
    return near[0] if near else next(iter(names), None) if len(names) == 1 else None
