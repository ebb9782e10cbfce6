"""Output that nobody reads to its end: ``brain-lightning doctor train.py | head -1``."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")

STATUS = 128 + 13
"""What shells say of a program that a closed pipe ended (SIGPIPE)."""


def ends_with_its_reader(command: Callable[P, int]) -> Callable[P, int]:
    """Let a command that prints end without a traceback when what reads it has gone.

    Not for one that runs a recipe: its errors are those that it has under ``python``.
    """

    @functools.wraps(command)
    def until_closed(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            status = command(*args, **kwargs)
            if sys.stdout is not None:
                sys.stdout.flush()  # here, not by the interpreter at its end
        except BrokenPipeError:
            # What is left in the buffer would be tried once more at the interpreter's end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return STATUS
        return status

    return until_closed


@ends_with_its_reader
def show(text: str) -> int:
    """Print a text that was asked for; returns the exit status."""
    print(text)
    return 0
