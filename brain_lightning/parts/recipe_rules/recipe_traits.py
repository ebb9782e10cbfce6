"""What the rules look at in a recipe, whether it was read from its source or from a live Brain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RecipeTraits:
    """A recipe, as far as the rules ask.

    ``overrides`` maps the methods of Brain that the recipe replaces to where it does: "train.py:30"
    or "" when the place is not known. ``optimizers`` is their number, None when it is not known.
    """

    name: str
    overrides: Mapping[str, str] = field(default_factory=dict)
    optimizers: int | None = None
    early_optimizer: str = ""
    """Where an optimizer is made before the Brain prepares its modules, "" if none is."""
    connects: bool = True
    """Whether the recipe, or the launcher for it, makes the process group."""
    around_wrapper: str = ""
    """What of a trainable entry is used that DDP's wrapper does not have, with places."""


def placed(names: Mapping[str, str]) -> str:
    """Return names with their places: ``fit_batch (train.py:30), zero_grad (train.py:41)``."""
    return ", ".join(f"{name} ({place})" if place else name for name, place in names.items())
