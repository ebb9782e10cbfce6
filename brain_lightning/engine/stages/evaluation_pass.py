"""One pass over a validation or test set, in SpeechBrain's order."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.logs.published_metrics import named_loss
from brain_lightning.engine.processes.rank_states import rank_states_known
from brain_lightning.engine.sharded_evaluation.evaluation_sharing import (
    shared_evaluation,
    warn_in_users_trainer,
)
from brain_lightning.engine.sharded_evaluation.shared_evaluation import SharedEvaluation
from brain_lightning.engine.sharded_modules.sharding import reshard
from brain_lightning.engine.stages.batch_tickets import BatchTickets
from brain_lightning.engine.stages.stop_iteration import stop_iteration_kept
from brain_lightning.engine.trainer.progress_bar import StageBar
from brain_lightning.ground.failure_board import FailureBoard, board_in_use
from brain_lightning.ground.stage import Stage
from brain_lightning.parts.checkpoints.gathering import others_at_hand


class EvaluationPass:
    """Opens, steps and closes a VALID or TEST stage.

    Order of calls: ``open``, ``next_batch`` and ``step`` for each batch, ``close``.
    """

    def __init__(
        self,
        brain: BrainProtocol,
        stage: Stage,
        epoch: int | None,
        tickets: BatchTickets | None,
        bar: StageBar,
    ) -> None:
        """Prepare a pass; ``tickets`` is None where the user's Trainer iterates itself."""
        self.brain = brain
        self.stage = stage
        self.epoch = epoch
        self.average: Any = 0.0
        self._whole = tickets
        self._shared: SharedEvaluation | None = None
        self._board: FailureBoard | None = None
        self._bar = bar
        self._finished = False
        self._gradients = torch.is_grad_enabled()

    @property
    def _tickets(self) -> BatchTickets | None:
        """Of all batches, or of this process's share."""
        return self._whole if self._shared is None else self._shared.tickets

    def open(self, limited: bool = False, is_trial: bool = False) -> None:
        """Call ``on_stage_start`` and switch the modules to evaluation.

        SpeechBrain does this before it switches gradients off, so they are as the caller has them.

        Args:
            limited: the Trainer limits the batches.
            is_trial: the stage will be abandoned.
        """
        self.average, self._finished = 0.0, False
        self._board = board_in_use()
        with stop_iteration_kept(), self.as_before():
            if self.stage is Stage.VALID:
                self.brain.on_stage_start(self.stage, self.epoch)
            else:  # named or not is as SpeechBrain calls it
                self.brain.on_stage_start(self.stage, epoch=self.epoch)
            self.brain.modules.eval()
        if self._whole is None:
            warn_in_users_trainer(self.brain, self.stage)
        else:
            self._whole.open()
            if not is_trial:
                self._share(self._whole.loader, limited)
        if self._tickets is not None:
            self._bar.open(self.stage, self._tickets.length())

    def _share(self, loader: Any, limited: bool) -> None:
        shared = shared_evaluation(self.brain, self.stage, loader, limited)
        if shared is not None:
            shared.open()
        self._shared = shared

    def as_before(self) -> AbstractContextManager[Any]:
        """Gradients on or off as they were when the pass was made, outside of Lightning's loop."""
        return torch.set_grad_enabled(self._gradients)

    def next_batch(self) -> Any:
        """Fetch the batch for the step that begins.

        Raises:
            StopIteration: there is none, or debug mode has seen enough.
        """
        assert self._tickets is not None
        if self._finished:
            raise StopIteration
        return self._tickets.fetch()

    def step(self, batch: Any) -> Any:
        """Evaluate one batch and return what ``evaluate_batch`` returns."""
        brain = self.brain
        with stop_iteration_kept():
            if self._shared is not None:
                loss = self._shared.evaluate(batch)
            else:
                brain.step += 1
                loss = brain.evaluate_batch(batch, stage=self.stage)
                self.average = brain.update_average(loss, self.average)
        if self._shared is None and brain.debug and brain.step == brain.debug_batches:
            self._finished = True
        self._bar.advance(stops_here=self._finished)
        if self._board is not None:
            self._board.look()
        return loss

    def close(self, limited: bool) -> Any:
        """Finish the loader, call ``on_stage_end`` and return the average loss.

        Args:
            limited: the user's Trainer limits the batches, so the rest of the loader is left alone.
        """
        if not limited:
            self._run_to_the_end()
        self._bar.close()
        if self._tickets is not None:
            self._tickets.close()
        if self._shared is not None:
            with stop_iteration_kept():
                self.average = self._shared.finish()
        brain = self.brain
        reshard(brain.modules)
        if self.stage is Stage.VALID:
            brain.step = 0
        losses = named_loss(f"{self.stage.name.lower()}_loss", self.average)
        connection_of(brain).stage_losses.update(losses)
        if self.stage is Stage.VALID:
            with stop_iteration_kept(), rank_states_known(brain):
                brain.on_stage_end(self.stage, self.average, self.epoch)
        else:
            with stop_iteration_kept(), others_at_hand(brain.checkpointer):
                brain.on_stage_end(self.stage, self.average, self.epoch)
            brain.step = 0
        return self.average

    @property
    def losses_so_far(self) -> dict[str, float]:
        """The average of the batches that were evaluated; none where processes share them."""
        if self._shared is not None:
            return {}
        return named_loss(f"{self.stage.name.lower()}_loss", self.average)

    def abandon(self) -> None:
        """Leave the stage without its end: the batches were only a check or a trial."""
        self._bar.close()
        if self._tickets is not None:
            self._tickets.close()
        if self._shared is not None:
            self._shared.abandon()
        self.brain.step = 0

    def _run_to_the_end(self) -> None:
        # A sampler may work when it is exhausted, and a loader may have more than its length.
        while self._tickets is not None and not self._finished and self._tickets.has_more():
            self.step(self._tickets.fetch())
