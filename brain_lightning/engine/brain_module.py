"""The LightningModule that is generated from a Brain."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from typing_extensions import override

from brain_lightning.engine.batch_tickets import TICKET
from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.evaluation_pass import EvaluationPass
from brain_lightning.engine.fit_run import FitRun
from brain_lightning.engine.lightning_internals import StepCounter
from brain_lightning.engine.optimization_steps import (
    AutomaticStep,
    ManualStep,
    OptimizationStep,
    step_outputs,
)
from brain_lightning.engine.optimizers import discover_optimizers
from brain_lightning.engine.test_run import TestRun


class BrainModule(pl.LightningModule):
    """A Brain as a LightningModule, usable with any ``lightning.Trainer``.

    ``Brain.fit()`` and ``Brain.evaluate()`` make one for every call. With a Trainer of your own::

        lightning.Trainer(max_epochs=3).fit(BrainModule(brain), train_loader, valid_loader)

    the Trainer counts the epochs and iterates the loaders, and the Brain's hooks run all the same.

    The Brain is held, not registered: its ``modules`` are the only submodule. Brain decides about
    train and eval mode, about devices and about gradients; the hooks by which Lightning would do
    so are overridden to do nothing.

    Order of the Brain's methods in a fit: ``on_fit_start`` (in ``configure_optimizers``); for each
    epoch ``on_stage_start(TRAIN)``, ``fit_batch`` for each batch, ``on_stage_end(TRAIN)``,
    ``on_stage_start(VALID)``, ``evaluate_batch`` for each batch, ``on_stage_end(VALID)``. In a
    test: ``on_evaluate_start``, ``on_stage_start(TEST)``, ``evaluate_batch``,
    ``on_stage_end(TEST)``.
    """

    def __init__(
        self,
        brain: BrainProtocol,
        *,
        fit_run: FitRun | None = None,
        test_run: TestRun | None = None,
    ) -> None:
        """Generate the module of ``brain``.

        Args:
            brain: the recipe.
            fit_run: what ``Brain.fit()`` knows; None in a Trainer of the user's.
            test_run: what ``Brain.evaluate()`` knows; None in a Trainer of the user's.

        Raises:
            ValueError: automatic optimization was asked for and the recipe does not allow it.
        """
        super().__init__()
        # Plain attributes: nn.Module's __setattr__ is slow, and none of these is a submodule.
        state = self.__dict__
        state["brain"] = brain
        state["_fit_run"] = fit_run
        state["_test_run"] = test_run
        state["_running"] = False
        self.brain_modules = brain.modules
        automatic = connection_of(brain).settings.optimization == "automatic"
        self.automatic_optimization = automatic
        step: OptimizationStep = AutomaticStep(brain) if automatic else ManualStep(brain)
        state["_step"] = step
        state["_steps"] = None

    brain: BrainProtocol
    _fit_run: FitRun | None
    _test_run: TestRun | None
    _running: bool
    _step: OptimizationStep
    _steps: StepCounter | None

    # -- set-up --------------------------------------------------------------------------------

    @override
    def setup(self, stage: str) -> None:
        """Make the run that a Trainer of the user's did not bring."""
        self.__dict__["_running"] = False
        connection_of(self.brain).enter(self)
        if stage in ("fit", "validate") and self._fit_run is None:
            self.__dict__["_fit_run"] = FitRun(self.brain)
        if stage == "test" and self._test_run is None:
            self.__dict__["_test_run"] = TestRun(self.brain)

    @override
    def configure_optimizers(self) -> Any:
        """Call ``on_fit_start``: compile, wrap, create optimizers, recover."""
        connection_of(self.brain).resume = None  # only what this fit recovers counts
        self.brain.on_fit_start()
        self.brain_modules = self.brain.modules
        optimizers = discover_optimizers(self.brain)
        if isinstance(self._step, AutomaticStep):
            self._step.require_one_optimizer()
        self.__dict__["_steps"] = StepCounter(self.trainer, self.automatic_optimization)
        self._run.start(self.trainer, self._step_counter)
        return optimizers

    @property
    def _run(self) -> FitRun:
        assert self._fit_run is not None
        return self._fit_run

    @property
    def _step_counter(self) -> StepCounter:
        assert self._steps is not None
        return self._steps

    # -- training ------------------------------------------------------------------------------

    @override
    def on_train_start(self) -> None:
        """See whether the epoch counter has an epoch at all."""
        self.__dict__["_running"] = True
        self._run.begin_training(self.trainer)

    @override
    def on_train_epoch_start(self) -> None:
        """Open the TRAIN stage of the next epoch."""
        if isinstance(self._step, AutomaticStep):
            self._step.grad_accumulation_factor = self.trainer.accumulate_grad_batches
        self._run.open_epoch(self.trainer)

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Run ``fit_batch``, or its first half in automatic optimization."""
        brain = self.brain
        brain.step += 1
        outputs = self._step.run(batch)
        if not self.automatic_optimization:
            self._count_batch()
        return outputs

    def _count_batch(self) -> None:
        self._run.count_batch(self._step.finish())
        self._step_counter.set(self.brain.optimizer_step)

    @override
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save, look whether the epoch ends here, and close its TRAIN stage if so.

        Lightning calls the module's hook behind those of all callbacks.
        """
        if self.automatic_optimization:
            self._count_batch()
        self._run.after_batch(self.trainer)

    @override
    def on_train_epoch_end(self) -> None:
        """Decide whether another epoch follows."""
        self._run.end_epoch(self.trainer)

    # -- automatic optimization ----------------------------------------------------------------

    @override
    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        """Step as ``optimizers_step`` does; what is left over at an epoch's end is not stepped."""
        step, brain = self._step, self.brain
        assert isinstance(step, AutomaticStep)
        if step.will_step():
            optimizer.step(closure=optimizer_closure)
            optimizer.zero_grad(set_to_none=True)
            brain.optimizer_step += 1
        else:
            optimizer_closure()
        self._step_counter.set(brain.optimizer_step - 1)  # Lightning adds one

    @override
    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        """Gradients are dropped right after the step, as SpeechBrain does."""

    @override
    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip and check as ``optimizers_step`` does."""
        assert isinstance(self._step, AutomaticStep)
        self._step.clip(optimizer)

    # -- validation ----------------------------------------------------------------------------

    @override
    def on_validation_epoch_start(self) -> None:
        """Open the VALID stage."""
        self.__dict__["_running"] = True
        self._run.open_validation(self.trainer)

    @override
    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """Run ``evaluate_batch``."""
        return step_outputs(self._evaluation.step(batch))

    @override
    def on_validation_epoch_end(self) -> None:
        """Close the VALID stage."""
        self._run.close_validation(self.trainer)

    # -- test ----------------------------------------------------------------------------------

    @override
    def on_test_start(self) -> None:
        """Call ``on_evaluate_start``, unless the Trainer was given a checkpoint to load."""
        self.__dict__["_running"] = True
        assert self._test_run is not None
        self._test_run.start(recover=self.trainer.ckpt_path is None)

    @override
    def on_test_epoch_start(self) -> None:
        """Open the TEST stage."""
        assert self._test_run is not None
        self._test_run.evaluation.open()

    @override
    def test_step(self, batch: Any, batch_idx: int) -> Any:
        """Run ``evaluate_batch``."""
        return step_outputs(self._evaluation.step(batch))

    @override
    def on_test_epoch_end(self) -> None:
        """Close the TEST stage."""
        assert self._test_run is not None
        self._test_run.finish(limited=self.trainer.limit_test_batches != 1.0)

    @property
    def _evaluation(self) -> EvaluationPass:
        if self._test_run is not None and self.trainer.testing:
            return self._test_run.evaluation
        validation = self._run.validation
        assert validation is not None
        return validation

    # -- batches -------------------------------------------------------------------------------

    @override
    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Fetch the batch behind a ticket; move it only where ``move_batch`` asks for it.

        Raises:
            StopIteration: the loader has no more; Lightning ends the stage.
        """
        if batch is TICKET:
            batch = self._next_batch()
        if connection_of(self.brain).settings.move_batch:
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        return batch

    def _next_batch(self) -> Any:
        if self.trainer.training:
            return self._run.training.next_batch()
        return self._evaluation.next_batch()

    # -- what Lightning leaves to Brain --------------------------------------------------------

    @override
    def on_validation_model_eval(self) -> None:
        """The VALID stage does it, after ``on_stage_start``."""

    @override
    def on_validation_model_train(self) -> None:
        """Brain leaves its modules in eval mode; the next TRAIN stage switches."""

    @override
    def on_validation_model_zero_grad(self) -> None:
        """The end of the TRAIN stage flushes the gradients."""

    @override
    def on_test_model_eval(self) -> None:
        """The TEST stage does it, after ``on_stage_start``."""

    @override
    def on_test_model_train(self) -> None:
        """Brain leaves its modules in eval mode."""

    @override
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Zero all gradients, but not at the start of a run.

        There the Trainer calls it on its own; an ``evaluate()`` in the middle of training must not
        drop what has accumulated.
        """
        if self._running:
            super().zero_grad(set_to_none)

    @override
    def cpu(self) -> BrainModule:
        """Stay: the Trainer's teardown calls this, and recipes go on on ``brain.device``."""
        return self
