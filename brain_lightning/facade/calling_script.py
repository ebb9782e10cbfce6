"""Which script called the library."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType

PACKAGES_PASSED_OVER = ("brain_lightning", "speechbrain")


def calling_script() -> Path | None:
    """Return the file of the first caller outside the libraries; None in a notebook, say.

    It is the caller that counts, through whatever wrapper the call went: ``run_on_main`` too.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_passed_over(frame):
        frame = frame.f_back
    if frame is None or "__file__" not in frame.f_globals:
        return None
    path = Path(os.path.realpath(str(frame.f_globals["__file__"])))
    return path if path.suffix != ".pyc" and path.is_file() else None


def _is_passed_over(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] in PACKAGES_PASSED_OVER
