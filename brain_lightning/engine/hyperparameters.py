"""What a recipe's ``hparams`` hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def hyperparameters_of(brain: object) -> Mapping[str, Any]:
    """Return the hyperparameters of a Brain by name, none where it has none.

    Brain's constructor makes a namespace of them; a recipe may put anything in its place.
    """
    hparams = getattr(brain, "hparams", None)
    return hparams if isinstance(hparams, Mapping) else getattr(hparams, "__dict__", {})
