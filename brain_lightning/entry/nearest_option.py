"""Which option somebody meant who wrote one that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from brain_lightning.parts.options.declarations import option_fields


def nearest_option(name: str, keys: Iterable[str] = (), alike: float = 0.6) -> str | None:
    """Return the run option, or the key of a file, that is written most like a name.

    Args:
        name: what was written; ``traner.devices`` is near to ``trainer.devices``.
        keys: what could be written beside the run options.
        alike: how near it must be, from 0 to 1.
    """
    first, dot, rest = name.partition(".")
    near = difflib.get_close_matches(first, ["trainer"], n=1, cutoff=alike) if dot else []
    if near:
        return f"{near[0]}.{rest}"
    found = difflib.get_close_matches(name, {*option_fields(), *keys}, n=1, cutoff=alike)
    return found[0] if found else None
