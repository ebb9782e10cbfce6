"""Whether Lightning must step the optimizer: something asked for cannot work otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import (
    GradientAccumulationScheduler,
    LearningRateFinder,
    StochasticWeightAveraging,
)
from lightning.pytorch.strategies import DeepSpeedStrategy

from brain_lightning.engine.trainer_callbacks import callbacks_of

NEEDING_CALLBACKS = (
    GradientAccumulationScheduler,
    LearningRateFinder,
    StochasticWeightAveraging,
)
"""Callbacks that change what Lightning does around its own optimizer step."""


def why_automatic(callbacks: Iterable[Any], strategy: Any) -> str | None:
    """Return what needs automatic optimization, or None.

    Args:
        callbacks: of the run.
        strategy: a strategy, its name, or None.
    """
    for callback in callbacks:
        if isinstance(callback, NEEDING_CALLBACKS):
            return f"the callback {type(callback).__name__}"
    if isinstance(strategy, DeepSpeedStrategy) or str(strategy).startswith("deepspeed"):
        return "the strategy DeepSpeed"
    return None


def why_automatic_in(trainer: pl.Trainer) -> str | None:
    """Return what in a Trainer of the user's needs automatic optimization, or None."""
    if trainer.accumulate_grad_batches != 1:
        return f"Trainer(accumulate_grad_batches={trainer.accumulate_grad_batches})"
    if trainer.gradient_clip_val is not None:
        return f"Trainer(gradient_clip_val={trainer.gradient_clip_val})"
    return why_automatic(callbacks_of(trainer), trainer.strategy)


def why_automatic_from(arguments: Mapping[str, Any]) -> str | None:
    """Return what in the user's Trainer arguments needs automatic optimization, or None."""
    callbacks = arguments.get("callbacks") or ()
    if not isinstance(callbacks, (list, tuple)):
        callbacks = (callbacks,)
    return why_automatic(callbacks, arguments.get("strategy"))
