"""Which callbacks a Trainer has, and what they need to be told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import OnExceptionCheckpoint


def callbacks_of(trainer: pl.Trainer) -> list[pl.Callback]:
    """Return a Trainer's callbacks, in the order in which they are called."""
    callbacks: list[pl.Callback] = vars(trainer)["callbacks"]  # its class does not declare it
    return callbacks


def saves_on_exception(callbacks: Iterable[Any]) -> bool:
    """Whether a callback saves a checkpoint when an error ends the run."""
    return any(
        isinstance(callback, OnExceptionCheckpoint) or getattr(callback, "save_on_exception", False)
        for callback in callbacks
    )
