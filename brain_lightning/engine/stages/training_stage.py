"""The TRAIN stage of one epoch after the other, in SpeechBrain's order."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.processes.gradient_exchange import drop_kept_gradients
from brain_lightning.engine.processes.joint_step import all_have_a_batch
from brain_lightning.engine.processes.rank_states import rank_states_known
from brain_lightning.engine.stages.batch_tickets import BatchTickets
from brain_lightning.engine.stages.stop_iteration import stop_iteration_kept
from brain_lightning.engine.trainer.progress_bar import StageBar
from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.stage import Stage

logger = get_logger(__name__)


class TrainingStage:
    """Opens, steps and closes TRAIN stages.

    Order of calls, for each epoch: ``open``; for each batch ``next_batch``, then the step itself,
    ``count``, ``save_if_due``; at last ``close``.
    """

    def __init__(self, brain: BrainProtocol, tickets: BatchTickets | None, bar: StageBar) -> None:
        """Prepare; ``tickets`` is None where the user's Trainer iterates itself."""
        self.brain = brain
        self.epoch: int | None = None
        self.is_open = False
        self.batches = 0
        self.together = False
        """Whether several processes take each step together."""
        self.was_passed_over = False
        """Whether the epoch in progress had been trained before this run."""
        self._tickets = tickets
        self._bar = bar
        self._interval_saver = connection_of(brain).interval_saver
        self._last_save = 0.0
        self._steps_since_save = 0

    def open(self, epoch: int) -> None:
        """Call ``on_stage_start`` and make everything ready for the epoch's first batch."""
        brain = self.brain
        self.epoch = epoch
        self.is_open = True
        self.was_passed_over = False
        self.batches = 0
        with stop_iteration_kept():
            brain.on_stage_start(Stage.TRAIN, epoch)
            brain.modules.train()
            brain.zero_grad()
        brain.nonfinite_count = 0
        if brain.train_sampler is not None and hasattr(brain.train_sampler, "set_epoch"):
            brain.train_sampler.set_epoch(epoch)
        self._last_save = time.time()
        self._steps_since_save = 0
        if self._tickets is not None:
            self._bar.open(Stage.TRAIN, self._tickets.length(), initial=brain.step)
        if brain.profiler is not None:
            brain.profiler.start()

    def pass_over(self, epoch: int) -> None:
        """Count ``epoch`` as trained already: a checkpoint was saved after its TRAIN stage."""
        self.epoch = epoch
        self.batches = 0
        self.was_passed_over = True
        self.brain.avg_train_loss = 0.0
        self.brain.step = 0

    def abandon(self) -> None:
        """Leave the stage without its end: it was a trial, or was profiled."""
        self.is_open = False
        self._bar.close()
        if self._tickets is not None:
            self._tickets.close()
        brain = self.brain
        brain.zero_grad(set_to_none=True)
        brain.avg_train_loss = 0.0
        brain.step = 0

    def next_batch(self, before_batch: Callable[[], None]) -> Any:
        """Fetch the batch for the step that begins.

        Args:
            before_batch: see :meth:`BatchTickets.fetch`.

        Raises:
            StopIteration: there is none, or all optimizer steps were made before this epoch.
        """
        assert self._tickets is not None
        if self.was_passed_over:
            raise StopIteration
        # After every other batch it is decided whether all processes have another one.
        if self.together and self.batches == 0 and not all_have_a_batch(self._tickets):
            raise StopIteration
        batch = self._tickets.fetch(before_batch)
        if self.brain._optimizer_step_limit_exceeded:
            logger.info("All optimizer steps that were asked for are made, training ends here.")
            raise StopIteration
        return batch

    def count(self, loss: Any) -> None:
        """Take the loss of a batch into the running average."""
        brain = self.brain
        self.batches += 1
        self._steps_since_save += 1
        with stop_iteration_kept():
            brain.avg_train_loss = brain.update_average(loss, brain.avg_train_loss)
        self._bar.advance(brain.avg_train_loss, stops_here=self.stopped_by_debug)
        if brain.profiler is not None:
            brain.profiler.step()

    @property
    def stopped_by_profiler(self) -> bool:
        """Whether the steps that ``profile_training`` asked for are recorded."""
        brain = self.brain
        return brain.profiler is not None and brain.profiler.step_num > brain.tot_prof_steps

    @property
    def stopped_by_debug(self) -> bool:
        """Whether debug mode has seen enough batches."""
        return self.brain.debug and self.brain.step == self.brain.debug_batches

    def save_if_due(self) -> None:
        """Save the interval checkpoint when its time has come."""
        brain = self.brain
        self._interval_saver.raise_error()
        if brain._should_save_intra_epoch_ckpt(self._last_save, self._steps_since_save):
            with stop_iteration_kept():
                brain._save_intra_epoch_ckpt()
            self._last_save = time.time()
            self._steps_since_save = 0
        elif brain.optimizer_step > 0 and self._is_half_way_to_save():
            # Not earlier: many a run ends before its first interval checkpoint.
            beside = connection_of(brain).settings.async_checkpoint
            self._interval_saver.prepare(brain, beside)

    def _is_half_way_to_save(self) -> bool:
        brain = self.brain
        minutes = (time.time() - self._last_save) / 60.0
        by_minutes = 0 < brain.ckpt_interval_minutes <= 2 * minutes
        return by_minutes or 0 < brain.ckpt_interval_steps <= 2 * self._steps_since_save

    def ends_here(self, may_be_saved: bool = False) -> bool:
        """Whether the loader, or the limit of optimizer steps, ends the epoch after this batch.

        Fetches the next batch, as SpeechBrain does at this moment, and holds it.
        """
        if self._tickets is None:
            return False
        if not self._tickets.has_more(may_be_saved):
            return True
        if self.brain._optimizer_step_limit_exceeded:
            logger.info("All optimizer steps that were asked for are made, training ends here.")
            return True
        return False

    def close(self) -> None:
        """Flush the gradients and call ``on_stage_end``; does nothing when no stage is open."""
        if not self.is_open:
            return
        self.is_open = False
        self._bar.close()
        if self._tickets is not None:
            self._tickets.close()
        brain = self.brain
        with stop_iteration_kept():
            brain.zero_grad(set_to_none=True)
        drop_kept_gradients(brain.modules)
        with stop_iteration_kept(), rank_states_known(brain):
            brain.on_stage_end(Stage.TRAIN, brain.avg_train_loss, self.epoch)
        brain.avg_train_loss = 0.0
        brain.step = 0
