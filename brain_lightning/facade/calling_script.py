"""Which script called the library."""

from __future__ import annotations

import os
from pathlib import Path

from brain_lightning.ground.callers import first_caller_outside

PACKAGES_PASSED_OVER = ("brain_lightning", "speechbrain")


def calling_script() -> Path | None:
    """Return the file of the first caller outside the libraries; None in a notebook, say.

    It is the caller that counts, through whatever wrapper the call went: ``run_on_main`` too.
    """
    frame, _ = first_caller_outside(PACKAGES_PASSED_OVER)
    if frame is None or "__file__" not in frame.f_globals:
        return None
    path = Path(os.path.realpath(str(frame.f_globals["__file__"])))
    return path if path.suffix != ".pyc" and path.is_file() else None
