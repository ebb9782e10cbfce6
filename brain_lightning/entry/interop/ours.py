"""From a place in the table of replacements to the object there."""

from __future__ import annotations

import importlib
from typing import Any


def object_at(place: str) -> Any:
    """Return what ``module:name`` names, importing the module."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
