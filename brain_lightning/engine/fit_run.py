"""One fit(): epochs from the recipe's counter, TRAIN and VALID stages, and when to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch

from brain_lightning.engine import lightning_internals as internals
from brain_lightning.engine.batch_tickets import BatchTickets
from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.defaults import is_overridden
from brain_lightning.engine.evaluation_pass import EvaluationPass
from brain_lightning.engine.fit_position import DONE, START, TRAINING, VALIDATION, FitPosition
from brain_lightning.engine.gradient_order import GradientOrder
from brain_lightning.engine.joint_step import decides_together, ends_for_all, wanted_by_any
from brain_lightning.engine.learning_rate_log import LearningRateLog
from brain_lightning.engine.logger_continuation import LoggerContinuation, write_out
from brain_lightning.engine.module_counters import ModuleCounters
from brain_lightning.engine.progress_bar import StageBar
from brain_lightning.engine.published_metrics import named_loss, publish
from brain_lightning.engine.random_replay import Replay
from brain_lightning.engine.requeue import Requeue
from brain_lightning.engine.resume import Resume
from brain_lightning.engine.stop_iteration import stop_iteration_kept
from brain_lightning.engine.train_log_repeats import RepeatedLines, sizes_at_the_start
from brain_lightning.engine.trainers_loader import TrainersLoader
from brain_lightning.engine.training_notes import TrainingNotes, restore_notes
from brain_lightning.engine.training_stage import TrainingStage
from brain_lightning.engine.uncounted_steps import steps_done
from brain_lightning.ground.stage import Stage
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.random_states import random_states, set_random_states
from brain_lightning.parts.epochs.epoch_source import EpochSource


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
        self.valid_loader = valid_loader
        self.datamodule: pl.LightningDataModule | None = None
        self.recipe_validates = epochs is not None and is_overridden(brain, "_fit_valid")
        self.train_tickets = None
        if train_loader is not None:
            self.train_tickets = BatchTickets(train_loader, keeps_start_states=True)
        self.valid_tickets = None
        if valid_loader is not None or self.recipe_validates:
            self.valid_tickets = BatchTickets(() if valid_loader is None else valid_loader)
        self.bar = bar or StageBar(False, {})
        self.training = TrainingStage(brain, self.train_tickets, self.bar)
        self._trainers_loader = TrainersLoader() if epochs is None else None
        self._left: FitPosition | None = None
        self.learning_rates = LearningRateLog()
        self.validation: EvaluationPass | None = None
        self._validated = False
        self._validated_at: int | None = None
        self._training_step: int | None = None
        self._first_number = 1
        self._opened_epochs = 0
        self._resume: Resume | None = None
        self.is_trial = False
        """Whether a callback tries training out: what is trained is taken back afterwards."""
        self.loggers: LoggerContinuation | None = None
        """The loggers, until it is known whether the run goes on with another one."""
        self.requeue = Requeue()
        """What SLURM asks for before it ends the job."""
        self.is_inner = False
        """Whether it runs inside of another run."""
        self.step_in_progress = False
        """Whether a batch is being trained on right now."""
        self.phase = START
        self.average: Any = None
        self._position: FitPosition | None = None
        self._loader_resumes = False
        self._validation_states: dict[str, Any] | None = None
        self._states_before_step: dict[str, Any] | None = None
        self._notes: TrainingNotes | None = None
        self.keeps_states_before_steps = False
        """Whether an error in the middle of a step is a moment to save a checkpoint."""

    # -- epochs ------------------------------------------------------------------------------

    def start(self, trainer: pl.Trainer, steps: internals.StepCounter) -> None:
        """Bring Lightning's counters to where the recipe is, after a recovery as well."""
        steps.restore(steps_done(self.brain))
        connection = connection_of(self.brain)
        self._resume = connection.resume
        if connection.module_counters is None:
            connection.module_counters = ModuleCounters(self.brain.modules)
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
        if upcoming is not None:
            # range(n) counts from zero; an EpochCounter from one, as SpeechBrain's loggers do.
            if self._position is None:
                self._first_number = 0 if upcoming == 0 else 1
            internals.set_current_epoch(trainer, upcoming - self._first_number)

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
        if self.epochs is None:
            self._left = position
            return
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

    def position(self, trainer: pl.Trainer) -> FitPosition:
        """Return where the run is, to be saved in a Lightning checkpoint."""
        brain = self.brain
        step = 0
        if self.phase == TRAINING:
            step = brain.step if self._training_step is None else self._training_step
            step -= int(self.step_in_progress)  # an error ended it: it will be done again
        tickets = self.train_tickets
        in_validation = self.phase == VALIDATION or self._training_step is not None
        return FitPosition(
            phase=self.phase,
            epoch=self.training.epoch if self.phase != START else None,
            first_number=self._first_number,
            step=step,
            optimizer_step=brain.optimizer_step,
            avg_train_loss=_plain(brain.avg_train_loss) if self.phase == TRAINING else 0.0,
            total_batches=internals.total_batches(trainer),
            callback_metrics={
                name: float(value) for name, value in trainer.callback_metrics.items()
            },
            random_states=self._states_to_go_on_with(in_validation),
            start_states=None if tickets is None else tickets.start_states,
            loader={} if tickets is None or not tickets.order else tickets.order.between_epochs(),
            trainers_loader=self._place_of_trainers_loader(),
            validation_due=self._owes_validation(trainer),
            training_notes=self.training_notes,
        )

    @property
    def training_notes(self) -> dict[str, Any]:
        """What the recipe noted at the end of TRAIN, while the VALID stage behind it lasts."""
        return self._notes.state() if self._notes and self.phase == VALIDATION else {}

    def _place_of_trainers_loader(self) -> dict[str, Any]:
        loader = self._trainers_loader
        return {} if loader is None else {"start": loader.start, "next": loader.between_epochs()}

    def before_loaders(self) -> None:
        """Be ready for the moment at which a Trainer of the user's makes its iterators."""
        if self._trainers_loader is not None:
            in_epoch = self._left is not None and self._left.phase == TRAINING
            place = self._left.trainers_loader if self._left is not None and in_epoch else {}
            self._trainers_loader.before_first_iterator(place.get("start"))

    def _go_on_in_users_trainer(self, trainer: pl.Trainer, loader: TrainersLoader) -> None:
        """Go on in the middle of an epoch, before its next batch is fetched."""
        left, resume = self._left, self._resume
        if left is None or left.phase != TRAINING or resume is None:
            return
        self._left = None
        if left.step < trainer.num_training_batches:
            self.open_epoch(trainer)
            if loader.can_go_on(trainer, self._recoverables):
                loader.go_on(trainer, left.trainers_loader["start"], left.step)
            resume.before_first_batch(self.brain)
            if left.validation_due:
                internals.run_validation_loop(trainer)
        else:
            self._end_epoch_left(trainer, left, resume)
            if not internals.has_more_epochs(trainer):
                return
            self.open_epoch(trainer)
            loader.begin_next(trainer, left.trainers_loader["next"])
        internals.before_next_training_batch(trainer, partial(set_random_states, random_states()))

    def _begin_trainers_loader(self, trainer: pl.Trainer, loader: TrainersLoader) -> None:
        left, self._left = self._left, None
        if left is not None:
            loader.begin_next(trainer, left.trainers_loader.get("next", ()))
        else:
            loader.begin()

    def _end_epoch_left(self, trainer: pl.Trainer, left: FitPosition, resume: Resume) -> None:
        """Do what came behind an epoch's last batch; Lightning takes the epoch for done."""
        assert left.epoch is not None
        self._resume = None
        self.training.open(left.epoch)
        self.phase = TRAINING
        resume.before_first_batch(self.brain)
        self._close_training(trainer)
        if internals.validation_is_due(trainer):
            internals.run_validation_loop(trainer)

    def validation_schedule(self, trainer: pl.Trainer) -> dict[str, Any]:
        """Return what ``val_interval_steps`` goes by, for the Checkpointer's checkpoints."""
        return {
            "total_batches": internals.total_batches(trainer),
            "validation_due": self._owes_validation(trainer),
        }

    @property
    def interrupted_at(self) -> int | None:
        """Batches done in the epoch while a validation interrupts its training, else None."""
        return self._training_step

    def _owes_validation(self, trainer: pl.Trainer) -> bool:
        """Whether the last batch was one behind which comes the validation of the interval."""
        if self.epochs is None:
            due = internals.validation_comes_behind(trainer, self.brain.step)
            return due and self._validated_at != internals.total_batches(trainer)
        interval = connection_of(self.brain).settings.val_interval_steps
        if not interval or self.valid_loader is None:
            return False
        total = internals.total_batches(trainer)
        return total > 0 and total % interval == 0 and self._validated_at != total

    def _states_to_go_on_with(self, in_validation: bool) -> dict[str, Any] | None:
        if self.step_in_progress:
            return self._states_before_step
        return self._validation_states if in_validation else None

    @property
    def unreliable_loaders(self) -> list[object]:
        """The loaders whose own positions are not those to resume from."""
        loaders: list[object] = []
        tickets = self.train_tickets
        # Behind the TRAIN stage the next epoch is a whole one.
        ahead = tickets is not None and (self.step_in_progress or tickets.is_ahead)
        if tickets is not None and (ahead or self.phase == VALIDATION):
            loaders.append(tickets.loader)
        if self.valid_tickets is not None and self.validation is not None:
            loaders.append(self.valid_tickets.loader)  # a validation is begun again
        return loaders

    def begin_training(self, trainer: pl.Trainer) -> None:
        """Train nothing when the counter has no epoch left."""
        if self.is_trial:
            self.bar.enabled = False
        elif self._trainers_loader is not None:
            self._trainers_loader.find(trainer)
            self._go_on_in_users_trainer(trainer, self._trainers_loader)
        elif self.epochs is not None and wanted_by_any(trainer, not self.epochs.has_next()):
            trainer.should_stop = True

    def open_epoch(self, trainer: pl.Trainer) -> None:
        """Take the next epoch and open its TRAIN stage.

        Raises:
            StopIteration: the counter has no more after all; Lightning ends the run.
        """
        if self.is_trial:
            self._open_trial(trainer)
            return
        epoch = trainer.current_epoch + 1 if self.epochs is None else self.epochs.take()
        number = max(epoch - self._first_number, 0)
        if self.epochs is not None and trainer.current_epoch != number:
            internals.set_current_epoch(trainer, number, opened=True)
        write_out(trainer)
        self._opened_epochs += 1
        self._validated = False
        resume, self._resume = self._resume, None
        position, self._position = self._position, None
        if position is not None and position.phase == VALIDATION:
            self._pass_over_training(epoch, resume)
            notes = position.training_notes
            restore_notes(self.brain, notes if resume is None else resume.training_notes(notes))
            return
        if resume is not None:
            resume.before_epoch(self.brain)
        self.training.open(epoch)
        self.phase = TRAINING
        if self._trainers_loader is not None:
            self._begin_trainers_loader(trainer, self._trainers_loader)
        if self.train_tickets is not None:
            replay = self._replay(self.train_tickets, resume, position)
            due = resume is not None and resume.validation_due
            due = due or (position is not None and position.validation_due)
            self._open_tickets(trainer, self.train_tickets, resume, replay, due)
        if self.epochs is not None and number == 0 and self._opened_epochs > 1:
            internals.begin_training_loaders(trainer)  # the first number came again: [1, 1]

    def _replay(
        self, tickets: BatchTickets, resume: Resume | None, position: FitPosition | None
    ) -> Replay | None:
        if position is not None:
            return position.replay(self._loader_resumes)
        if resume is None:
            return None
        return tickets.replay_from(resume.loader, resume.is_in_epoch, self._recoverables)

    @property
    def _recoverables(self) -> list[object]:
        return list(getattr(self.brain.checkpointer, "recoverables", {}).values())

    @property
    def loader_place(self) -> dict[str, Any] | None:
        """Where the training loader is, if it does not save that by itself."""
        if self.train_tickets is None or self.is_inner:
            return None
        return self.train_tickets.place(self._recoverables)

    def _open_trial(self, trainer: pl.Trainer) -> None:
        upcoming = None if self.epochs is None else self.epochs.upcoming()
        self.training.open(trainer.current_epoch + 1 if upcoming is None else upcoming)
        if self.train_tickets is not None:
            self._open_tickets(trainer, self.train_tickets, None, None)

    def _pass_over_training(self, epoch: int, resume: Resume | None) -> None:
        self.training.pass_over(epoch)
        self.phase = VALIDATION
        if resume is not None:
            resume.restore_modules(self.brain)
            resume.set_random_states()

    def _open_tickets(
        self,
        trainer: pl.Trainer,
        tickets: BatchTickets,
        resume: Resume | None,
        replay: Replay | None,
        validation_due: bool = False,
    ) -> None:
        self.training.together = decides_together(trainer)
        length = tickets.length()
        batches = float("inf") if length is None else length
        if not _limits_training(trainer):
            internals.set_training_batches(trainer, batches)
        # Behind a recovery, unless a recipe writes its own numbers into step.
        done = self.brain.step if 0 < self.brain.step <= batches else 0
        tickets.open(
            before_first_ticket=partial(internals.set_batches_done, trainer, done),
            before_first_batch=(
                None if resume is None else partial(self._go_on, trainer, resume, validation_due)
            ),
            replay=replay,
        )

    def _go_on(
        self, trainer: pl.Trainer, resume: Resume, validation_due: bool
    ) -> Callable[[], None] | None:
        """Go on in the middle of an epoch; return what is to be done behind the first batch.

        The interrupted run had fetched that batch before it validated, where ``has_more`` is how
        the end of the epoch is found.
        """
        resume.before_first_batch(self.brain)
        length = None if self.train_tickets is None else self.train_tickets.length()
        validate = partial(internals.run_validation_loop, trainer)
        if length is None or decides_together(trainer):
            if validation_due:
                return validate
            return resume.set_random_states if resume.was_fetched_ahead else None
        # Behind the last batch the TRAIN stage ends first.
        if validation_due and self.brain.step < length:
            validate()
        return None

    def begin_batch(self) -> None:
        """Note that a step begins; should an error end it, it is as if it had not begun."""
        self.step_in_progress = True
        if self.keeps_states_before_steps:
            self._states_before_step = random_states()

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

    def _close_training(self, trainer: pl.Trainer) -> None:
        training = self.training
        if not training.is_open:
            return
        if self.is_trial:
            training.abandon()
            return
        self.phase = VALIDATION
        self._validation_states = None
        self.average = self.brain.avg_train_loss
        connection = connection_of(self.brain)
        losses = named_loss("train_loss", self.average)
        connection.stage_losses.update(losses)
        publish(trainer, {**losses, **self.learning_rates.rates})
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
        tickets = None if _limits_training(trainer) else self.train_tickets
        may_be_saved = self._may_validate_here(trainer)
        if tickets is not None and not ends_here:
            tickets.has_more(may_be_saved)
        return ends_for_all(trainer, self.brain, tickets, ends_here, self.requeue)

    def _may_validate_here(self, trainer: pl.Trainer) -> bool:
        """Whether a validation, in which recipes save, may come behind this batch."""
        if connection_of(self.brain).settings.val_interval_steps:
            return self._owes_validation(trainer)
        return trainer.val_check_interval != 1.0

    @property
    def states_before_batch_ahead(self) -> dict[str, Any] | None:
        """The random states with which a batch was fetched that waits for a validation to end."""
        return None if self.train_tickets is None else self.train_tickets.states_before_held

    def _ends_here(self, trainer: pl.Trainer) -> bool:
        if trainer.should_stop and _may_stop(trainer):
            return True
        tickets = self.train_tickets
        last = trainer.is_last_batch
        if tickets is None or _limits_training(trainer):
            return last
        limit_reached = self.brain._optimizer_step_limit_exceeded
        if not (last or limit_reached or trainer.num_training_batches == float("inf")):
            return False
        if self.training.ends_here(self._may_validate_here(trainer)):
            internals.end_epoch_after_this_batch(trainer)
            return True
        if last:
            internals.extend_epoch(trainer)
        return False

    def _stop_profiling(self, trainer: pl.Trainer) -> None:
        profiler, self.brain.profiler = self.brain.profiler, None
        profiler.stop()
        trainer.limit_val_batches = 0
        trainer.should_stop = True

    def end_epoch(self, trainer: pl.Trainer) -> None:
        """Close what is still open, validate where Lightning could not, decide about the next."""
        empty = self.training.batches == 0
        with internals.logged_at_the_last_step(trainer, steps_done(self.brain)):
            self._close_training(trainer)
            if self.is_trial:
                return
            if not self._validated:
                self._validate_late(trainer, empty)
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

    def release(self) -> None:
        """Let go of the loaders and the epoch counter when the run is over."""
        for tickets in (self.train_tickets, self.valid_tickets):
            if tickets is not None:
                tickets.release()
        self.valid_loader = None
        self._counter = None
        self.epochs = None if self.epochs is None else EpochSource(())

    # -- validation --------------------------------------------------------------------------

    def _validate_late(self, trainer: pl.Trainer, empty: bool) -> None:
        """Call ``_fit_valid`` where the recipe has its own, or where no batch led to validation."""
        has_data = self.valid_tickets is not None and self.valid_loader is not None
        by_steps = connection_of(self.brain).settings.val_interval_steps
        due = self._owes_validation(trainer) if by_steps else internals.validation_is_due(trainer)
        if self.recipe_validates or (empty and has_data and due):
            with stop_iteration_kept():
                self.brain._fit_valid(
                    valid_set=self.valid_loader, epoch=self.training.epoch, enable=self.bar.enabled
                )

    def validate_with(self, trainer: pl.Trainer, loader: Iterable[Any]) -> None:
        """Run Lightning's validation loop over ``loader``: what the default ``_fit_valid`` does."""
        assert self.valid_tickets is not None
        usual, self.valid_tickets.loader = self.valid_tickets.loader, loader
        try:
            internals.run_validation_loop(trainer)
        finally:
            self.valid_tickets.loader = usual

    def open_validation(self, trainer: pl.Trainer) -> None:
        """Open a VALID stage, after the epoch or in its middle (``val_check_interval``)."""
        self._validated = True
        self._validation_states = random_states()
        if self.training.is_open:
            self._training_step, self.brain.step = self.brain.step, 0
            set_epoch_in_progress(self.brain.checkpointer, True)
        epoch = self.training.epoch
        if epoch is None:  # the user's Trainer validates alone, or before training
            epoch = trainer.current_epoch + 1
        with torch.enable_grad():  # as in training, from which SpeechBrain comes here
            self.validation = EvaluationPass(
                self.brain, Stage.VALID, epoch, self.valid_tickets, self.bar
            )
        self.validation.open(
            limited=limits_validation(trainer), is_trial=trainer.sanity_checking or self.is_trial
        )

    def after_validation_batch(self, trainer: pl.Trainer, is_last: bool = False) -> None:
        """Serve a requeue signal; what is saved begins this validation again."""
        if trainer.sanity_checking or self.is_trial or self.train_tickets is None:
            return
        brain = self.brain
        step = brain.step
        if self._training_step is not None:
            brain.step = self._training_step
        self.requeue.serve_in_validation(trainer, brain, is_last)
        brain.step = step

    def close_validation(self, trainer: pl.Trainer) -> Any:
        """Close the VALID stage and go on training where it was interrupted; return the loss."""
        self.after_validation_batch(trainer, is_last=True)
        validation, self.validation = self.validation, None
        assert validation is not None
        self._validated_at = internals.total_batches(trainer)
        if trainer.sanity_checking or self.is_trial:
            # The end of a VALID stage is where recipes change learning rates and save.
            validation.abandon()
            average = None
        else:
            average = validation.close(limited=limits_validation(trainer))
            connection_of(self.brain).share_meta()
            if not self.training.is_open:
                self.phase = DONE
        if self._training_step is not None:
            self.brain.step, self._training_step = self._training_step, None
            set_epoch_in_progress(self.brain.checkpointer, False)
            self.brain.modules.train()
        self._validation_states = None
        return average


def set_epoch_in_progress(checkpointer: object, value: bool) -> None:
    """Tell a Checkpointer whether what is saved now is from the middle of an epoch."""
    if isinstance(checkpointer, Checkpointer):
        checkpointer.epoch_in_progress = value


def _plain(average: Any) -> Any:
    return average.detach().cpu() if isinstance(average, torch.Tensor) else average


def _limits_training(trainer: pl.Trainer) -> bool:
    return is_limit(trainer.limit_train_batches)


def limits_validation(trainer: pl.Trainer) -> bool:
    """Whether the user's Trainer looks at a part of the validation set only."""
    return is_limit(trainer.limit_val_batches)


def is_limit(batches: float) -> bool:
    """Whether a Trainer's limit leaves batches out: 1.0 is all of them, 1 is one batch."""
    return isinstance(batches, int) or batches != 1.0


def _may_stop(trainer: pl.Trainer) -> bool:
    min_epochs, min_steps = trainer.min_epochs or 0, trainer.min_steps or 0
    return trainer.current_epoch >= min_epochs and trainer.global_step >= min_steps
