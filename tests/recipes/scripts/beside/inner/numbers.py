"""Numbers."""

from __future__ import annotations

SCALE = 3.0


def shift(values):
    return values + 0.1
