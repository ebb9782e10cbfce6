"""Warnings that are shown at the line of the user's that led to them.

Lightning shows a warning from any file with "lightning" in its path without its category and its
line, so one from a file of ours would be. Its place is in the user's script anyway: that is what
filters by module and Python's "once for each line" go by.
"""

from __future__ import annotations

import sys
import warnings
from types import FrameType

PACKAGES_PASSED_OVER = frozenset(
    {"brain_lightning", "contextlib", "functools", "lightning", "speechbrain", "torch"}
)


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the first caller outside of the libraries."""
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and _is_passed_over(frame):
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=2 if frame is None else level)


def _is_passed_over(frame: FrameType) -> bool:
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return package in PACKAGES_PASSED_OVER
