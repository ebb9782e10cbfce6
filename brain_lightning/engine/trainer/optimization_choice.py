"""Whether Lightning must step the optimizer: something asked for cannot work otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.strategies import DeepSpeedStrategy

from brain_lightning.engine.trainer.trainer_callbacks import callbacks_of
from brain_lightning.ground.ranks import is_distributed_initialized
from brain_lightning.parts.recipe_rules import optimization_rules
from brain_lightning.parts.recipe_rules.optimization_rules import is_deepspeed
from brain_lightning.parts.recipe_rules.strategy_rules import WHOLE_MODULE_DDP


def why_automatic(callbacks: Iterable[Any], strategy: Any) -> str | None:
    """Return what needs automatic optimization, or None.

    Args:
        callbacks: of the run.
        strategy: a strategy, its name, or None.
    """
    kinds = (
        (type(callback).__name__, [kind.__name__ for kind in type(callback).__mro__])
        for callback in callbacks
    )
    whole = strategy == WHOLE_MODULE_DDP and is_distributed_initialized()
    deepspeed = isinstance(strategy, DeepSpeedStrategy) or is_deepspeed(strategy)
    return optimization_rules.why_automatic(kinds, deepspeed, whole)


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
