"""The hooks around the optimizer step, for recipes that step their optimizers themselves.

Lightning calls them from its own wrappers, through which a Brain's optimizers do not go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
from torch.optim import Optimizer

from brain_lightning.engine.optimization.hook_listeners import HookListeners

BEFORE_STEP = "on_before_optimizer_step"
BEFORE_ZERO_GRAD = "on_before_zero_grad"


class OptimizerHooks:
    """Calls ``on_before_optimizer_step`` and ``on_before_zero_grad`` where somebody listens.

    Order of calls: ``attach`` at every epoch; for each step ``before_step`` and
    ``before_zero_grad``, from ``optimizers_step`` or, where a recipe calls ``optimizer.step()``
    itself, from hooks of torch; ``detach`` at the end.

    A recipe's own step is announced right before it, so after the recipe's clipping, and
    ``on_before_zero_grad`` right after it, while the gradients are still there.
    """

    def __init__(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        generated: type[pl.LightningModule],
    ) -> None:
        """Find out who listens; the arguments are those of :class:`HookListeners`."""
        self._listeners = HookListeners(trainer, module, generated, (BEFORE_STEP, BEFORE_ZERO_GRAD))
        self._handles: list[Any] = []
        self._announced = False

    @property
    def are_heard(self) -> bool:
        """Whether anybody overrides one of the hooks."""
        return self._listeners.are_there

    def attach(self, optimizers: Iterable[Optimizer]) -> None:
        """Notice the steps of these optimizers, and no longer those of others."""
        self.detach()
        for optimizer in optimizers:
            self._handles.append(optimizer.register_step_pre_hook(self._on_raw_step))
            self._handles.append(optimizer.register_step_post_hook(self._after_raw_step))

    def detach(self) -> None:
        """Take the hooks off all optimizers."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def before_step(self, optimizers: Iterable[Optimizer]) -> None:
        """Announce the steps of ``optimizers_step``: gradients are unscaled and not clipped."""
        self._announced = True
        for optimizer in optimizers:
            self._listeners.call(BEFORE_STEP, optimizer)

    def before_zero_grad(self, optimizers: Iterable[Optimizer]) -> None:
        """Announce that ``optimizers_step`` drops the gradients now."""
        self._announced = False
        for optimizer in optimizers:
            self._listeners.call(BEFORE_ZERO_GRAD, optimizer)

    def _on_raw_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        del args, kwargs
        if not self._announced:
            self._listeners.call(BEFORE_STEP, optimizer)

    def _after_raw_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        del args, kwargs
        if not self._announced:
            self._listeners.call(BEFORE_ZERO_GRAD, optimizer)
