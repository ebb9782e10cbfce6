"""Who called a library: the first frame that is in none of some packages."""

from __future__ import annotations

import sys
from collections.abc import Container
from types import FrameType


def first_caller_outside(packages: Container[str]) -> tuple[FrameType | None, int]:
    """Return the frame, and how far it is from whoever calls this, which is 1.

    Args:
        packages: top-level names of the packages whose frames are passed over.

    Returns:
        None and the number of frames where all are of those packages.
    """
    distance = 1
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _package_of(frame) in packages:
        frame = frame.f_back
        distance += 1
    return frame, distance


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
