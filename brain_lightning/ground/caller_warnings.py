"""Warnings that are shown at the line of the user's that led to them.

Lightning shows a warning from any file with "lightning" in its path without its category and its
line, so one from a file of ours would be. Its place is in the user's script anyway: that is what
filters by module and Python's "once for each line" go by.
"""

from __future__ import annotations

import warnings

from brain_lightning.ground.callers import first_caller_outside

PACKAGES_PASSED_OVER = frozenset(
    {"brain_lightning", "contextlib", "functools", "lightning", "speechbrain", "torch"}
)


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the first caller outside of the libraries."""
    frame, level = first_caller_outside(PACKAGES_PASSED_OVER)
    warnings.warn(message, category, stacklevel=2 if frame is None else level)
