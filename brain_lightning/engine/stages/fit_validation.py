"""The VALID stages of one fit(): when they come, and what they interrupt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch

from brain_lightning.engine import lightning_internals as internals
from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.requeue import Requeue
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.defaults import is_overridden
from brain_lightning.engine.stages.batch_limits import limits_validation
from brain_lightning.engine.stages.batch_tickets import BatchTickets
from brain_lightning.engine.stages.evaluation_pass import EvaluationPass
from brain_lightning.engine.stages.stop_iteration import stop_iteration_kept
from brain_lightning.engine.stages.training_stage import TrainingStage
from brain_lightning.engine.trainer.progress_bar import StageBar
from brain_lightning.ground.stage import Stage
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.random_states import random_states


class FitValidation:
    """Opens and closes VALID stages, after each epoch or in its middle.

    Order of calls: ``begin_epoch``; for each stage ``open``, ``after_batch`` after each batch,
    ``close``; ``validate_late`` at the epoch's end.
    """

    def __init__(
        self,
        brain: BrainProtocol,
        loader: Iterable[Any] | None,
        training: TrainingStage,
        bar: StageBar,
        requeue: Requeue,
        counts_epochs: bool,
    ) -> None:
        """Prepare; nothing is iterated yet.

        Args:
            brain: the recipe.
            loader: the validation loader; None without validation, or when the Trainer iterates.
            training: the TRAIN stage that a VALID stage may interrupt.
            bar: the progress bar of the stages.
            requeue: what SLURM asks for before it ends the job.
            counts_epochs: whether the recipe's counter does; if not, a Trainer of the user's.
        """
        self.loader = loader
        self.recipe_validates = counts_epochs and is_overridden(brain, "_fit_valid")
        """Whether the recipe overrides ``_fit_valid`` and calls validation itself."""
        self.tickets: BatchTickets | None = None
        if loader is not None or self.recipe_validates:
            self.tickets = BatchTickets(() if loader is None else loader)
        self.stage: EvaluationPass | None = None
        """The stage in progress."""
        self.states_at_start: dict[str, Any] | None = None
        """The random states with which the stage in progress began."""
        self.interrupted_at: int | None = None
        """Batches done in the epoch while a validation interrupts its training, else None."""
        self._brain = brain
        self._training = training
        self._bar = bar
        self._requeue = requeue
        self._counts_epochs = counts_epochs
        self.is_left = False
        """Whether a validation is left over from the run that this one goes on with."""
        # In a fit as in training, from which SpeechBrain comes here; else as the caller has them.
        self._gradients = counts_epochs or torch.is_grad_enabled()
        self.is_asked_for = False
        """Whether ``_fit_valid`` is called for the run, and not by the recipe in between."""
        self._was_in_epoch = False
        self._done_at: int | None = None

    def begin_epoch(self, is_left: bool = False) -> None:
        """Begin an epoch, after which no validation has come yet.

        Args:
            is_left: the run that this one goes on with was about to validate, or validated.
        """
        self.is_left = is_left
        self._was_in_epoch = False

    # -- when ----------------------------------------------------------------------------------

    def is_owed(self, trainer: pl.Trainer) -> bool:
        """Whether after the last batch comes a validation in the middle of the epoch."""
        if not self._counts_epochs:
            batch = self._brain.step
        elif self.stage is not None:
            return True  # it is begun again
        else:
            batch = internals.batches_of_epoch(trainer)
        due = internals.validation_comes_after(trainer, batch)
        return due and self._done_at != internals.total_batches(trainer)

    def may_come_here(self, trainer: pl.Trainer) -> bool:
        """Whether a validation, in which recipes save, may come after this batch."""
        return internals.validates_by_time(trainer) or self.is_owed(trainer)

    def validate_late(self, trainer: pl.Trainer, is_epoch_empty: bool) -> None:
        """Call ``_fit_valid`` where the recipe has its own, or where no batch led to validation."""
        ends_by_steps = not is_epoch_empty and self._is_end_of_steps(trainer)
        if self._was_in_epoch and not ends_by_steps:
            return
        has_data = self.tickets is not None and self.loader is not None
        due = ends_by_steps or self.is_left
        if internals.validates_after_epochs(trainer):
            due = internals.validation_is_due(trainer)
        is_missing = (is_epoch_empty or ends_by_steps) and has_data and due
        if self.recipe_validates or is_missing:
            with stop_iteration_kept(), self._asking(True):
                self._brain._fit_valid(
                    valid_set=self.loader, epoch=self._training.epoch, enable=self._bar.enabled
                )

    @contextmanager
    def _asking(self, value: bool) -> Iterator[None]:
        before, self.is_asked_for = self.is_asked_for, value
        try:
            yield
        finally:
            self.is_asked_for = before

    def _is_end_of_steps(self, trainer: pl.Trainer) -> bool:
        """Whether ``optimizer_step_limit`` ends training between two validations by steps.

        SpeechBrain validates there, and recipes save what they have trained.
        """
        return (
            self._counts_epochs
            and self._brain._optimizer_step_limit_exceeded
            and not internals.validates_after_epochs(trainer)
            and self._done_at != internals.total_batches(trainer)
        )

    def run_over(self, trainer: pl.Trainer, loader: Iterable[Any]) -> None:
        """Run Lightning's validation loop over ``loader``: what the default ``_fit_valid`` does."""
        assert self.tickets is not None
        usual, self.tickets.loader = self.tickets.loader, loader
        try:
            with self._asking(False):
                internals.run_validation_loop(trainer)
        finally:
            self.tickets.loader = usual

    # -- one stage -----------------------------------------------------------------------------

    def open(self, trainer: pl.Trainer, is_trial: bool) -> None:
        """Open a VALID stage, after the epoch or in its middle (``val_check_interval``).

        Args:
            trainer: of the run.
            is_trial: the stage will be abandoned.
        """
        brain = self._brain
        self._was_in_epoch = True
        self.states_at_start = random_states()
        if self._training.is_open:
            self.interrupted_at, brain.step = brain.step, 0
            set_epoch_in_progress(brain.checkpointer, True)
        epoch = self._training.epoch
        if epoch is None:  # the user's Trainer validates alone, or before training
            epoch = trainer.current_epoch + 1
        with torch.set_grad_enabled(self._gradients):
            self.stage = EvaluationPass(brain, Stage.VALID, epoch, self.tickets, self._bar)
        self.stage.open(
            limited=limits_validation(trainer), is_trial=trainer.sanity_checking or is_trial
        )

    def after_batch(self, trainer: pl.Trainer, is_trial: bool, is_last: bool = False) -> None:
        """Serve a requeue signal; what is saved begins this validation again."""
        if trainer.sanity_checking or is_trial or not self._counts_epochs:
            return
        brain = self._brain
        step = brain.step
        if self.interrupted_at is not None:
            brain.step = self.interrupted_at
        self._requeue.serve_in_validation(trainer, brain, is_last)
        brain.step = step

    def close(self, trainer: pl.Trainer, is_trial: bool) -> Any:
        """Close the VALID stage and go on training where it was interrupted; return the loss."""
        self.after_batch(trainer, is_trial, is_last=True)
        stage, self.stage = self.stage, None
        assert stage is not None
        self._done_at = internals.total_batches(trainer)
        if trainer.sanity_checking or is_trial:
            # The end of a VALID stage is where recipes change learning rates and save.
            stage.abandon()
            average = None
        else:
            average = stage.close(limited=limits_validation(trainer))
            connection_of(self._brain).share_meta()
        if self.interrupted_at is not None:
            self._brain.step, self.interrupted_at = self.interrupted_at, None
            set_epoch_in_progress(self._brain.checkpointer, False)
            self._brain.modules.train()
        self.states_at_start = None
        return average

    def release(self) -> None:
        """Let go of the loader when the run is over."""
        if self.tickets is not None:
            self.tickets.release()
        self.loader = None


def set_epoch_in_progress(checkpointer: object, value: bool) -> None:
    """Tell a Checkpointer whether what is saved now is from the middle of an epoch."""
    if isinstance(checkpointer, Checkpointer):
        checkpointer.epoch_in_progress = value
