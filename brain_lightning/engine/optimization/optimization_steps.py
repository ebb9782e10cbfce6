"""Who steps the optimizer: Brain (manual) or Lightning (automatic)."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.defaults import overridden_places
from brain_lightning.engine.optimization.optimizers import discover_optimizers
from brain_lightning.engine.optimization.uncounted_steps import steps_noticed
from brain_lightning.engine.processes.gradient_exchange import exchange_gradients
from brain_lightning.engine.sharded_modules.sharded_gradients import clip_gradients
from brain_lightning.engine.stages.stop_iteration import stop_iteration_kept
from brain_lightning.ground.stage import Stage
from brain_lightning.parts.recipe_rules.optimization_rules import (
    OWNED_BY_LIGHTNING,
    why_not_automatic,
)
from brain_lightning.parts.recipe_rules.recipe_traits import RecipeTraits


class OptimizationStep(Protocol):
    """One training batch, up to its loss."""

    def run(self, batch: Any) -> Any:
        """Train on the batch, or compute its loss for Lightning to train on."""

    def finish(self) -> Any:
        """Return the batch's detached loss once the optimizer has stepped."""


class ManualStep:
    """Brain's own ``fit_batch``, as the recipe has it."""

    def __init__(self, brain: BrainProtocol) -> None:
        """Step with ``brain``."""
        self._brain = brain
        self._loss: Any = None

    def run(self, batch: Any) -> Any:
        """Train on the batch and return what callbacks see as its outputs."""
        with stop_iteration_kept(), steps_noticed(self._brain):
            self._loss = loss = self._brain.fit_batch(batch)
        return step_outputs(loss)

    def finish(self) -> Any:
        """Return the loss."""
        loss, self._loss = self._loss, None
        return loss


class AutomaticStep:
    """The default ``fit_batch`` in two halves, with Lightning's backward and step between them."""

    def __init__(self, brain: BrainProtocol, reason: str) -> None:
        """Step with ``brain``, which must not override what Lightning does now.

        Args:
            brain: the recipe.
            reason: what asks for automatic optimization, as the user would name it.

        Raises:
            ValueError: the recipe overrides one of ``OWNED_BY_LIGHTNING``.
        """
        self._require_allowed(brain, reason, optimizers=None)
        self._reason = reason
        self._brain = brain
        self._pending: tuple[Any, Any, torch.Tensor, bool] | None = None
        self.grad_accumulation_factor = brain.grad_accumulation_factor
        self.is_divided_again = False
        """Whether the strategy divides the loss by the factor, as Lightning does before it."""

    def will_step(self) -> bool:
        """Whether the batch that comes next is one after which the optimizer steps."""
        return (self._brain.step + 1) % self.grad_accumulation_factor == 0

    def run(self, batch: Any) -> torch.Tensor:
        """Compute the loss; Lightning divides it, goes backward and steps."""
        brain = self._brain
        factor = self.grad_accumulation_factor
        should_step = brain.step % factor == 0
        brain.on_fit_batch_start(batch, should_step)
        exchange_gradients(brain.modules, should_step)
        with brain.training_ctx:
            outputs, loss = self._compute(batch, should_step)
        brain.check_loss_isfinite(brain.scaler.scale(loss / factor))
        self._pending = (batch, outputs, loss, should_step)
        return loss * factor if self.is_divided_again else loss

    def _compute(self, batch: Any, should_step: bool) -> tuple[Any, torch.Tensor]:
        brain = self._brain
        whole = connection_of(brain).whole_batch
        if whole is None:
            outputs = brain.compute_forward(batch, Stage.TRAIN)
            return outputs, brain.compute_objectives(outputs, batch, Stage.TRAIN)
        whole.require_backward_grad_sync = should_step
        loss = whole(batch)
        return whole.module.outputs, loss

    @property
    def is_pending(self) -> bool:
        """Whether a batch's loss was computed and :meth:`finish` not called yet."""
        return self._pending is not None

    def clip(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip and check the gradients, as ``optimizers_step`` does between unscale and step."""
        brain = self._brain
        clip_gradients(optimizer.param_groups[0]["params"], brain.max_grad_norm)
        if brain.skip_nonfinite_grads and not brain.scaler.is_enabled():
            brain.check_gradients()

    def finish(self) -> Any:
        """Call ``on_fit_batch_end`` and return the loss."""
        assert self._pending is not None
        batch, outputs, loss, should_step = self._pending
        self._pending = None
        self._brain.on_fit_batch_end(batch, outputs, loss, should_step)
        return loss.detach().cpu()

    def require_one_optimizer(self) -> None:
        """Check what can only be known once optimizers exist.

        Raises:
            ValueError: there is not exactly one.
        """
        self._require_allowed(self._brain, self._reason, len(discover_optimizers(self._brain)))

    def _require_allowed(self, brain: BrainProtocol, reason: str, optimizers: int | None) -> None:
        overrides = overridden_places(brain, OWNED_BY_LIGHTNING)
        refusal = why_not_automatic(
            RecipeTraits(type(brain).__name__, overrides, optimizers), reason
        )
        if refusal is not None:
            raise ValueError(refusal)


def step_outputs(loss: Any) -> dict[str, Any]:
    """What a callback gets as ``outputs``: a mapping with the detached ``loss``."""
    if isinstance(loss, torch.Tensor):
        return {"loss": loss.detach()}
    if isinstance(loss, (int, float)):
        return {"loss": torch.tensor(float(loss))}
    if not isinstance(loss, dict):
        return {}
    outputs = dict(loss)
    if not isinstance(outputs.get("loss"), torch.Tensor):
        # Lightning detaches what is called so.
        outputs.update(step_outputs(outputs.pop("loss", None)))
    return outputs
