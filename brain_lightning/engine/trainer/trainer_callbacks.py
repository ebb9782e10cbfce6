"""Which callbacks a Trainer has, and what they need to be told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import DeviceStatsMonitor, OnExceptionCheckpoint

from brain_lightning.engine.lightning_internals import wants_psutil


def callbacks_of(trainer: pl.Trainer) -> list[pl.Callback]:
    """Return a Trainer's callbacks, in the order in which they are called."""
    callbacks: list[pl.Callback] = vars(trainer)["callbacks"]  # its class does not declare it
    return callbacks


def pass_over(
    callbacks: Iterable[pl.Callback], hook: str, module: pl.LightningModule
) -> Callable[[], None]:
    """Keep callbacks from hearing a hook of ``module``'s run.

    Returns:
        What lets them hear it again. Where the run ends before that, they hear those of others.
    """
    kept = list(callbacks)

    def hear() -> None:
        for callback in kept:
            with suppress(AttributeError):
                delattr(callback, hook)  # the one of the object

    def pass_over_or_hear(callback: pl.Callback, trainer: pl.Trainer, heard: Any) -> None:
        if heard is not module:
            hear()
            getattr(callback, hook)(trainer, heard)

    for callback in kept:
        setattr(callback, hook, partial(pass_over_or_hear, callback))
    return hear


def require_packages(trainer: pl.Trainer) -> None:
    """Refuse to run with a callback whose package would be missed at the first batch.

    Raises:
        ModuleNotFoundError: names the package.
    """
    for callback in callbacks_of(trainer):
        if not isinstance(callback, DeviceStatsMonitor) or not trainer.loggers:
            continue
        if wants_psutil(callback, trainer.strategy.root_device):
            raise ModuleNotFoundError(
                "The callback DeviceStatsMonitor is to log what the CPU does and needs the package "
                "psutil, which is not installed. Install it with `pip install psutil`, or give "
                "the callback cpu_stats=False."
            )


def saves_on_exception(callbacks: Iterable[Any]) -> bool:
    """Whether a callback saves a checkpoint when an error ends the run."""
    return any(
        isinstance(callback, OnExceptionCheckpoint) or getattr(callback, "save_on_exception", False)
        for callback in callbacks
    )


_IN_STEPS = (
    "on_train_batch_start",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "on_exception",
)
"""The hooks between the fetch of a batch and the end of its step."""


def may_save_in_steps(callbacks: Iterable[pl.Callback]) -> bool:
    """Whether a checkpoint may be saved between the fetch of a batch and the end of its step.

    Callbacks of the user's may in any hook; of Lightning's only those that save on an exception do.
    """
    callbacks = list(callbacks)
    hooks = (getattr(callback, name) for callback in callbacks for name in _IN_STEPS)
    return saves_on_exception(callbacks) or any(_is_users(hook) for hook in hooks)


def _is_users(hook: Callable[..., Any]) -> bool:
    package = str(getattr(hook, "__module__", "")).partition(".")[0]
    return package not in ("lightning", "brain_lightning")
