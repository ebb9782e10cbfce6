"""Which pickled class kept torch from reading a file as tensors and plain values."""

from __future__ import annotations

import re


def refused_class(error: BaseException) -> str | None:
    """Return the class that ``torch.load(..., weights_only=True)`` names, None where it has none.

    Args:
        error: what it raised.
    """
    found = re.search(r"GLOBAL (\S+)", str(error))
    return None if found is None else found[1]
