"""One fit(): epochs from the recipe's counter, TRAIN and VALID stages, and when to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch

from brain_lightning.engine import lightning_internals as internals
from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.fit_position import (
    DONE,
    START,
    TRAINING,
    VALIDATION,
    FitPosition,
)
from brain_lightning.engine.checkpoints.module_counters import ModuleCounters
from brain_lightning.engine.checkpoints.random_replay import Replay
from brain_lightning.engine.checkpoints.requeue import Requeue
from brain_lightning.engine.checkpoints.resume import Resume
from brain_lightning.engine.checkpoints.training_notes import TrainingNotes, restore_notes
from brain_lightning.engine.checkpoints.unsaved_progress import UnsavedProgress
from brain_lightning.engine.checkpoints.unsaved_training import UnsavedTraining
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.logs.learning_rate_log import LearningRateLog
from brain_lightning.engine.logs.logger_continuation import LoggerContinuation, write_out
from brain_lightning.engine.logs.published_metrics import named_loss, publish, show_in_bars
from brain_lightning.engine.logs.train_log_repeats import RepeatedLines, sizes_at_the_start
from brain_lightning.engine.optimization.uncounted_steps import steps_done
from brain_lightning.engine.processes.gradient_order import GradientOrder
from brain_lightning.engine.processes.joint_step import (
    decides_together,
    ends_for_all,
    fewest_of_all,
    wanted_by_any,
)
from brain_lightning.engine.stages.batch_limits import limits_training
from brain_lightning.engine.stages.batch_tickets import BatchTickets
from brain_lightning.engine.stages.fit_validation import FitValidation
from brain_lightning.engine.stages.training_stage import TrainingStage
from brain_lightning.engine.trainer.progress_bar import StageBar
from brain_lightning.parts.checkpoints.random_states import random_states
from brain_lightning.parts.data.iterations_in_use import iterations_in_use
from brain_lightning.parts.epochs.epoch_source import EpochSource, last_epoch_of


class FitRun:
    """What fit() knows while it lasts; a new one for every call.

    Order of calls: ``start``, ``begin_training``; for each epoch ``open_epoch``, for each batch
    ``count_batch`` and ``after_batch``, ``end_epoch``. Validation: ``open_validation`` and
    ``close_validation``.
    """

    def __init__(
        self,
        brain: BrainProtocol,
        epochs: EpochSource | None = None,
        train_loader: Iterable[Any] | None = None,
        valid_loader: Iterable[Any] | None = None,
        bar: StageBar | None = None,
        counter: Any = None,
    ) -> None:
        """Prepare a run.

        Args:
            brain: the recipe.
            epochs: the epoch counter given to fit(); None when the user's Trainer counts.
            train_loader: the training loader; None when the Trainer iterates itself.
            valid_loader: the validation loader; None as above, or without validation.
            bar: the progress bar of the stages.
            counter: what ``epochs`` was made from.
        """
        self.brain = brain
        self.epochs = epochs
        self._counter = counter
        self.datamodule: pl.LightningDataModule | None = None
        self.loads_datamodule = True
        """Whether its state is still to be loaded from the checkpoint that is gone on from."""
        self.train_tickets = None
        if train_loader is not None:
            self.train_tickets = BatchTickets(train_loader, keeps_start_states=True)
        self.bar = bar or StageBar(False, {})
        self.requeue = Requeue()
        """What SLURM asks for before it ends the job."""
        self.training = TrainingStage(brain, self.train_tickets, self.bar)
        self.validation = FitValidation(
            brain, valid_loader, self.training, self.bar, self.requeue, epochs is not None
        )
        self.learning_rates = LearningRateLog()
        self._first_number = 1
        self._opened_epochs = 0
        self._resume: Resume | None = None
        self.is_trial = False
        """Whether a callback tries training out: what is trained is taken back afterwards."""
        self.loggers: LoggerContinuation | None = None
        """The loggers, until it is known whether the run goes on with another one."""
        self.is_inner = False
        """Whether it runs inside of another run."""
        self.step_in_progress = False
        """Whether a batch is being trained on right now."""
        self.phase = START
        self.average: Any = None
        self._position: FitPosition | None = None
        self._way_back: tuple[FitPosition | None, Resume] | None = None
        self._loader_resumes = False
        self._states_before_step: dict[str, Any] | None = None
        self._iterations_before_step: list[dict[str, Any]] = []
        self._done_before_step = (0, 0)
        self._notes: TrainingNotes | None = None
        self._own_accumulation: int | None = None
        self._forget_bars: Callable[[], None] | None = None
        self._restored_notes: Mapping[str, Any] = {}
        self.keeps_states_before_steps = False
        """Whether a checkpoint may be saved between the fetch of a batch and its step's end."""

    # -- the start ---------------------------------------------------------------------------

    def start(self, trainer: pl.Trainer, steps: internals.StepCounter) -> None:
        """Bring Lightning's counters to where the recipe is, after a recovery as well."""
        steps.restore(steps_done(self.brain))
        connection = connection_of(self.brain)
        self._resume = connection.resume
        if connection.module_counters is None:
            connection.module_counters = ModuleCounters(self.brain.modules)
        if connection.unsaved_progress is None:
            connection.unsaved_progress = UnsavedProgress(self.brain)
            connection.unsaved_training = UnsavedTraining(self.brain)
        if connection.gradient_order is None:
            known = None if self._resume is None else self._resume.gradient_orders
            connection.gradient_order = GradientOrder(self.brain.modules, known)
        if self._resume is not None and self._position is None:
            self._resume.restore_callbacks(trainer)
            before = self._resume.batches_before_epoch(self.brain)
            if before is not None:
                internals.set_total_batches(trainer, before)
        connection.repeated_lines = self._repeated_lines()
        self._open_loggers(trainer)
        upcoming = self.epochs.upcoming() if self.epochs is not None else None
        if self.epochs is not None:
            self._forget_bars = internals.count_epochs_in_rich_bars(trainer, self._last_epoch)
        if upcoming is not None:
            # range(n) counts from zero; an EpochCounter from one, as SpeechBrain's loggers do.
            if self._position is None:
                self._first_number = 0 if upcoming == 0 else 1
            internals.set_current_epoch(trainer, upcoming - self._first_number)

    def _last_epoch(self) -> int | None:
        """The last value of ``trainer.current_epoch``, where it is known."""
        last = last_epoch_of(self._counter)
        return None if last is None else last - self._first_number

    def _open_loggers(self, trainer: pl.Trainer) -> None:
        loggers, self.loggers = self.loggers, None
        if loggers is None:
            return
        if self._resume is None:
            loggers.begin()
        else:
            loggers.go_on(trainer, self._resume.logger_states)

    def _repeated_lines(self) -> RepeatedLines | None:
        if self.epochs is None or self.is_inner:
            return connection_of(self.brain).repeated_lines
        if self._resume is not None:
            return self._resume.repeated_lines(self.brain)
        sizes = sizes_at_the_start(self.brain)
        return None if sizes is None else RepeatedLines(self.brain, sizes)

    def go_to(self, trainer: pl.Trainer, position: FitPosition, resumed: Sequence[object]) -> None:
        """Go on from a Lightning checkpoint; called before ``start``.

        Args:
            trainer: of the run.
            position: where the run was that saved the checkpoint.
            resumed: the recoverables that have recovered their states by themselves.
        """
        brain = self.brain
        brain.step = position.step
        brain.optimizer_step = position.optimizer_step
        brain.avg_train_loss = position.avg_train_loss
        publish(trainer, position.callback_metrics, to_loggers=False)
        self._go_to(trainer, position, resumed)

    def _go_to(self, trainer: pl.Trainer, position: FitPosition, resumed: Sequence[object]) -> None:
        """Bring loader and epoch counter there."""
        if position.epoch is None:
            return
        self._position = position
        self._first_number = position.first_number
        if self.train_tickets is not None:
            loader = self.train_tickets.loader
            self._loader_resumes = any(each is loader for each in resumed)
            if position.phase != TRAINING and self.train_tickets.order is not None:
                self.train_tickets.order.go_on(position.loader)
            internals.set_total_batches(trainer, position.total_batches - position.step)
        self._forward_epochs(position)

    def _forward_epochs(self, position: FitPosition) -> None:
        assert self.epochs is not None
        assert position.epoch is not None
        upcoming = position.epoch + int(position.end_of_epoch)
        counter = self._counter
        if isinstance(getattr(counter, "current", None), int) and hasattr(counter, "limit"):
            counter.current = upcoming - 1
        while (number := self.epochs.upcoming()) is not None and number < upcoming:
            self.epochs.take()

    def before_loaders(self) -> None:
        """Called before Lightning makes the iterators of the run's first epoch."""

    def begin_training(self, trainer: pl.Trainer) -> None:
        """Train nothing when the counter has no epoch left."""
        if self.is_trial:
            self.bar.enabled = False
        else:
            self._begin_training(trainer)

    def _begin_training(self, trainer: pl.Trainer) -> None:
        assert self.epochs is not None
        if wanted_by_any(trainer, not self.epochs.has_next()):
            trainer.should_stop = True
            if self._resume is not None:  # what comes after this fit draws random numbers too
                self._resume.before_epoch(self.brain)
                self._resume = None

    # -- what checkpoints have of it ---------------------------------------------------------

    def position(self, trainer: pl.Trainer) -> FitPosition:
        """Return where the run is, to be saved in a Lightning checkpoint."""
        left = self._position if self._way_back is None else self._way_back[0]
        if left is not None:  # the random states are in what is resumed from
            return replace(left, random_states=None)
        if self.phase == START and self._resume is not None and self._resume.is_in_epoch:
            return self._position_in_epoch_to_come(trainer, self._resume)
        brain = self.brain
        step = 0
        interrupted_at = self.validation.interrupted_at
        if self.phase == TRAINING:
            step = brain.step if interrupted_at is None else interrupted_at
        total_batches = internals.total_batches(trainer)
        if self.step_in_progress:  # an error ended it: it will be done again
            step, total_batches = self._done_before_step
        tickets = self.train_tickets
        in_validation = self.phase == VALIDATION or interrupted_at is not None
        return FitPosition(
            phase=self.phase,
            epoch=self.training.epoch if self.phase != START else None,
            first_number=self._first_number,
            step=step,
            optimizer_step=brain.optimizer_step,
            avg_train_loss=_plain(brain.avg_train_loss) if self.phase == TRAINING else 0.0,
            total_batches=total_batches,
            callback_metrics={
                name: float(value) for name, value in trainer.callback_metrics.items()
            },
            random_states=self._states_to_go_on_with(in_validation),
            start_states=None if tickets is None else tickets.start_states,
            loader={} if tickets is None or not tickets.order else tickets.order.between_epochs(),
            trainers_loader=self._place_of_trainers_loader,
            validation_due=not self.step_in_progress and self.validation.is_owed(trainer),
            training_notes=self.training_notes,
        )

    def _position_in_epoch_to_come(self, trainer: pl.Trainer, resume: Resume) -> FitPosition:
        """Return where the run will be once it has begun: what it goes on from is in an epoch."""
        assert self.epochs is not None
        place = resume.loader
        return FitPosition(
            phase=TRAINING,
            epoch=self.epochs.upcoming(),
            first_number=self._first_number,
            step=self.brain.step,
            optimizer_step=self.brain.optimizer_step,
            avg_train_loss=_plain(self.brain.avg_train_loss),
            total_batches=internals.total_batches(trainer) + self.brain.step,
            start_states=None if place is None else place.get("start"),
            validation_due=resume.validation_due,
        )

    def _states_to_go_on_with(self, in_validation: bool) -> dict[str, Any] | None:
        if self.left is not None:
            return None
        if self.step_in_progress:
            return self._states_before_step
        return self.validation.states_at_start if in_validation else None

    @property
    def left(self) -> Resume | None:
        """What the run goes on from, until it has come to where it was left.

        On the way, batches that were done are fetched again; an error then changes nothing.
        """
        return self._resume if self._way_back is None else self._way_back[1]

    @property
    def _place_of_trainers_loader(self) -> dict[str, Any]:
        """Where the loaders are that a Trainer of the user's iterates."""
        return {}

    @property
    def training_notes(self) -> dict[str, Any]:
        """What the recipe noted at the end of TRAIN, while the VALID stage after it lasts."""
        if self.phase != VALIDATION:
            return {}
        return dict(self._restored_notes) if self._notes is None else self._notes.state()

    def validation_schedule(self, trainer: pl.Trainer) -> dict[str, Any]:
        """Return what ``val_interval_steps`` goes by, for the Checkpointer's checkpoints."""
        return {
            "total_batches": internals.total_batches(trainer),
            "validation_due": self.validation.is_owed(trainer),
        }

    @property
    def states_before_batch_ahead(self) -> dict[str, Any] | None:
        """The random states with which a batch was fetched that waits for a validation to end."""
        return None if self.train_tickets is None else self.train_tickets.states_before_held

    @property
    def loader_place(self) -> dict[str, Any] | None:
        """Where the training loader is, if it does not save that by itself."""
        if self.train_tickets is None or self.is_inner:
            return None
        return self.train_tickets.place(self._recoverables)

    @property
    def unreliable_loaders(self) -> list[object]:
        """The loaders whose own positions are not those to resume from."""
        loaders: list[object] = []
        tickets = self.train_tickets
        # After the TRAIN stage the next epoch is a whole one.
        on_the_way = self.left is not None and self.phase != START
        ahead = self.step_in_progress or on_the_way
        ahead = ahead or (tickets is not None and tickets.is_ahead)
        if tickets is not None and (ahead or self.phase == VALIDATION):
            loaders.append(tickets.loader)
        if self.validation.tickets is not None and self.validation.stage is not None:
            loaders.append(self.validation.tickets.loader)  # a validation is begun again
        return loaders

    @property
    def _recoverables(self) -> list[object]:
        return list(getattr(self.brain.checkpointer, "recoverables", {}).values())

    # -- the beginning of an epoch -----------------------------------------------------------

    def open_epoch(self, trainer: pl.Trainer) -> None:
        """Take the next epoch and open its TRAIN stage.

        Raises:
            StopIteration: the counter has no more after all; Lightning ends the run.
        """
        if self.is_trial:
            self._open_trial(trainer)
            return
        epoch = self._next_epoch(trainer)
        write_out(trainer)
        self._opened_epochs += 1
        resume, self._resume = self._resume, None
        position, self._position = self._position, None
        left = resume is not None and resume.validation_due
        left = left or (position is not None and position.validation_due)
        self.validation.begin_epoch(is_left=left)
        if position is not None and position.phase == VALIDATION:
            self._pass_over_training(epoch, resume)
            notes = position.training_notes
            self._restored_notes = notes if resume is None else resume.training_notes(notes)
            restore_notes(self.brain, self._restored_notes)
            return
        if resume is not None:
            resume.before_epoch(self.brain)
        self.training.open(epoch)
        self.phase = TRAINING
        self._open_loader(trainer, resume, position)

    def _open_trial(self, trainer: pl.Trainer) -> None:
        upcoming = None if self.epochs is None else self.epochs.upcoming()
        self.training.open(trainer.current_epoch + 1 if upcoming is None else upcoming)
        if self.train_tickets is not None:
            self._open_tickets(trainer, self.train_tickets, None, None)

    def _next_epoch(self, trainer: pl.Trainer) -> int:
        assert self.epochs is not None
        epoch = self.epochs.take()
        number = max(epoch - self._first_number, 0)
        if trainer.current_epoch != number:
            internals.set_current_epoch(trainer, number, opened=True)
        return epoch

    def _pass_over_training(self, epoch: int, resume: Resume | None) -> None:
        self.training.pass_over(epoch)
        self.phase = VALIDATION
        if resume is not None:
            resume.restore_modules(self.brain)
            resume.set_random_states()

    def _open_loader(
        self, trainer: pl.Trainer, resume: Resume | None, position: FitPosition | None
    ) -> None:
        assert self.train_tickets is not None
        if resume is not None and resume.is_in_epoch:
            self._way_back = (position, resume)
        replay = self._replay(self.train_tickets, resume, position)
        self._open_tickets(trainer, self.train_tickets, resume, replay)
        if trainer.current_epoch == 0 and self._opened_epochs > 1:
            internals.begin_training_loaders(trainer)  # the first number came again: [1, 1]

    def _replay(
        self, tickets: BatchTickets, resume: Resume | None, position: FitPosition | None
    ) -> Replay | None:
        if position is not None:
            return position.replay(self._loader_resumes)
        if resume is None:
            return None
        return tickets.replay_from(resume.loader, resume.is_in_epoch, self._recoverables)

    def _open_tickets(
        self,
        trainer: pl.Trainer,
        tickets: BatchTickets,
        resume: Resume | None,
        replay: Replay | None,
    ) -> None:
        self.training.together = decides_together(trainer)
        length = tickets.length()
        batches = float("inf") if length is None else length
        if not limits_training(trainer):
            internals.set_training_batches(trainer, batches)
            if length is not None and internals.validates_by_share(trainer):
                fewest = fewest_of_all(trainer, length)
                internals.set_share_between_validations(trainer, fewest)
        # After a recovery, unless a recipe writes its own numbers into step.
        done = self.brain.step if 0 < self.brain.step <= batches else 0
        tickets.open(
            before_first_ticket=partial(internals.set_batches_done, trainer, done),
            before_first_batch=None if resume is None else partial(self._go_on, trainer, resume),
            replay=replay,
        )

    def _go_on(self, trainer: pl.Trainer, resume: Resume) -> Callable[[], None] | None:
        """Go on in the middle of an epoch; return what is to be done after the first batch.

        The interrupted run had fetched that batch before it validated, where ``has_more`` is how
        the end of the epoch is found.

        Raises:
            StopIteration: a Trainer that limits the batches of an epoch had trained on all of them.
        """
        resume.before_first_batch(self.brain)
        self._way_back = None
        if limits_training(trainer) and self.brain.step >= trainer.num_training_batches:
            raise StopIteration
        length = None if self.train_tickets is None else self.train_tickets.length()
        validate = partial(internals.run_validation_loop, trainer)
        if length is None or decides_together(trainer):
            if self.validation.is_left:
                return validate
            return resume.set_random_states if resume.was_fetched_ahead else None
        # After the last batch the TRAIN stage ends first.
        if self.validation.is_left and self.brain.step < length:
            validate()
        return None

    # -- batches, and the end of TRAIN -------------------------------------------------------

    def next_batch(self, trainer: pl.Trainer) -> Any:
        """Fetch the batch of the step that begins with it.

        Raises:
            StopIteration: there is none.
        """
        self.step_in_progress = False  # a callback may have passed over the last batch
        self.begin_batch(trainer)
        try:
            return self.training.next_batch(self._note_states)
        except StopIteration:
            self.step_in_progress = False
            raise

    def begin_batch(self, trainer: pl.Trainer) -> None:
        """Note that a step begins; should an error end it, it is as if it had not begun.

        A Trainer of the user's has fetched the batch when it is called, else it is called before:
        a data set may draw random numbers, or fail.
        """
        if self.step_in_progress:
            return
        self.step_in_progress = True
        self._done_before_step = (self.brain.step, internals.total_batches(trainer))
        self._note_states()

    def _note_states(self) -> None:
        if self.keeps_states_before_steps:
            self._states_before_step = random_states()
            self._iterations_before_step = self.iterations_of_parts

    @property
    def iterations_of_parts(self) -> list[dict[str, Any]]:
        """Where the loaders are that parts of the recipe draw from."""
        # A Trainer of the user's iterates loaders itself.
        return [] if self.train_tickets is None else iterations_in_use()

    @property
    def iterations_to_go_on_with(self) -> list[dict[str, Any]]:
        """Where those loaders were before the step that an error has ended, or are."""
        if self.step_in_progress and self.keeps_states_before_steps:
            return self._iterations_before_step
        return self.iterations_of_parts

    def count_batch(self, loss: Any) -> None:
        """Take a batch's loss into the average."""
        self.step_in_progress = False
        self.training.count(loss)

    def after_batch(self, trainer: pl.Trainer) -> None:
        """Decide, when all callbacks have seen the batch, whether the epoch goes on."""
        training = self.training
        if not self.is_trial:
            self.requeue.serve(trainer, self.brain)
        if training.stopped_by_profiler:
            self._stop_profiling(trainer)
            self.average = self.brain.avg_train_loss
            training.abandon()
            return
        if training.stopped_by_debug:
            internals.end_epoch_after_this_batch(trainer)
        else:
            # What an inner run has come to is no position in the epoch around it.
            if not (self.is_trial or self.is_inner):
                training.save_if_due()
            if not self._ends_for_all(trainer):
                return
        self._close_training(trainer)

    def _stop_profiling(self, trainer: pl.Trainer) -> None:
        profiler, self.brain.profiler = self.brain.profiler, None
        profiler.stop()
        trainer.limit_val_batches = 0
        trainer.should_stop = True

    def _close_training(self, trainer: pl.Trainer) -> None:
        training = self.training
        if not training.is_open:
            return
        if self.is_trial:
            training.abandon()
            return
        self.step_in_progress = False  # a callback may have passed over a batch
        self.phase = VALIDATION
        self.validation.states_at_start = None
        self.average = self.brain.avg_train_loss
        connection = connection_of(self.brain)
        losses = named_loss("train_loss", self.average)
        connection.stage_losses.update(losses)
        publish(trainer, {**losses, **self.learning_rates.rates})
        show_in_bars(trainer, losses)
        connection.stage_is_ending = True
        notes = TrainingNotes(self.brain)
        try:
            training.close()
        finally:
            connection.stage_is_ending = False
        notes.take()
        self._notes = notes
        connection.share_meta()

    def _ends_for_all(self, trainer: pl.Trainer) -> bool:
        ends_here = self._ends_here(trainer)
        if not decides_together(trainer):
            return ends_here
        tickets = None if limits_training(trainer) else self.train_tickets
        may_be_saved = self.validation.may_come_here(trainer)
        if tickets is not None and not ends_here:
            tickets.has_more(may_be_saved)
        return ends_for_all(trainer, self.brain, tickets, ends_here, self.requeue)

    def _ends_here(self, trainer: pl.Trainer) -> bool:
        if trainer.should_stop and _may_stop(trainer):
            return True
        tickets = self.train_tickets
        last = trainer.is_last_batch
        if tickets is None or limits_training(trainer):
            return last
        limit_reached = self.brain._optimizer_step_limit_exceeded
        if not (last or limit_reached or trainer.num_training_batches == float("inf")):
            return False
        if self.training.ends_here(self.validation.may_come_here(trainer)):
            internals.end_epoch_after_this_batch(trainer)
            return True
        if last:
            internals.extend_epoch(trainer)
        return False

    # -- validation --------------------------------------------------------------------------

    def open_validation(self, trainer: pl.Trainer) -> None:
        """Open a VALID stage, after the epoch or in its middle."""
        self.validation.open(trainer, self.is_trial)

    def after_validation_batch(self, trainer: pl.Trainer) -> None:
        """Do what is to be done after a batch of validation."""
        self.validation.after_batch(trainer, self.is_trial)

    def close_validation(self, trainer: pl.Trainer) -> Any:
        """Close the VALID stage and return its average loss, None where it was only tried out."""
        average = self.validation.close(trainer, self.is_trial)
        if not (trainer.sanity_checking or self.is_trial or self.training.is_open):
            self.phase = DONE
        return average

    # -- the end of an epoch, and of the run -------------------------------------------------

    def end_epoch(self, trainer: pl.Trainer) -> None:
        """Close what is still open, validate where Lightning could not, decide about the next."""
        empty = self.training.batches == 0 and not self._was_stopped_before_it(trainer)
        with internals.logged_at_the_last_step(trainer, steps_done(self.brain)):
            self._close_training(trainer)
            if self.is_trial:
                return
            self.validation.validate_late(trainer, empty)
        self.phase = DONE
        connection_of(self.brain).epochs_done = trainer.current_epoch
        self.requeue.serve_between_stages(trainer, self.brain)
        if self.epochs is None:
            return
        brain = self.brain
        is_last = (
            (brain.debug and self.training.epoch == brain.debug_epochs)
            or (brain._optimizer_step_limit_exceeded)
            or (not trainer.should_stop and not self.epochs.has_next())
        )
        # A counter may have stopped early in one process only.
        if wanted_by_any(trainer, is_last or trainer.should_stop):
            trainer.should_stop = True

    def _was_stopped_before_it(self, trainer: pl.Trainer) -> bool:
        """Whether a callback stopped the run before the epoch's first batch: nothing follows."""
        stops = trainer.should_stop and _may_stop(trainer)
        return stops and not (self.training.was_passed_over or self.validation.is_left)

    def accumulate(self, batches: int | None) -> None:
        """Step after so many batches, as a callback wants it; None: as the Brain does."""
        if self._own_accumulation is None:
            self._own_accumulation = self.brain.grad_accumulation_factor
        self.brain.grad_accumulation_factor = self._own_accumulation if batches is None else batches
        if batches is None:
            self._own_accumulation = None

    def release(self) -> None:
        """Let go of the loaders and the epoch counter when the run is over."""
        self.accumulate(None)
        if self._forget_bars is not None:
            self._forget_bars()
        if self.train_tickets is not None:
            self.train_tickets.release()
        self.validation.release()
        self._counter = None
        self.epochs = None if self.epochs is None else EpochSource(())


def _plain(average: Any) -> Any:
    return average.detach().cpu() if isinstance(average, torch.Tensor) else average


def _may_stop(trainer: pl.Trainer) -> bool:
    min_epochs, min_steps = trainer.min_epochs or 0, trainer.min_steps or 0
    return trainer.current_epoch >= min_epochs and trainer.global_step >= min_steps
