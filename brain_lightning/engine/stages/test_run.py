"""One evaluate(): recover the checkpoint to test, then a TEST stage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.stages.batch_tickets import BatchTickets
from brain_lightning.engine.stages.evaluation_pass import EvaluationPass
from brain_lightning.engine.stages.stop_iteration import stop_iteration_kept
from brain_lightning.engine.trainer.progress_bar import StageBar
from brain_lightning.ground.stage import Stage


class TestRun:
    """What evaluate() knows while it lasts.

    Order of calls: ``start``, then the pass in ``evaluation``, ``finish``.
    """

    __test__ = False  # pytest collects classes of this name

    def __init__(
        self,
        brain: BrainProtocol,
        loader: Iterable[Any] | None = None,
        max_key: str | None = None,
        min_key: str | None = None,
        bar: StageBar | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            brain: the recipe.
            loader: the test loader; None when the user's Trainer iterates itself.
            max_key: recover the checkpoint with the highest value of this key.
            min_key: recover the checkpoint with the lowest value of this key.
            bar: the progress bar of the stage.
        """
        self.brain = brain
        self.tickets = None if loader is None else BatchTickets(loader)
        self.average: Any = 0.0
        self._max_key = max_key
        self._min_key = min_key
        bar = bar or StageBar(False, {})
        self.evaluation = EvaluationPass(brain, Stage.TEST, None, self.tickets, bar)

    def start(self, recover: bool) -> None:
        """Call ``on_evaluate_start``, with gradients as the caller has them."""
        if recover:
            with stop_iteration_kept(), self.evaluation.as_before():
                self.brain.on_evaluate_start(max_key=self._max_key, min_key=self._min_key)

    def release(self) -> None:
        """Let go of the loader when the run is over."""
        if self.tickets is not None:
            self.tickets.release()

    def finish(self, limited: bool) -> None:
        """Close the TEST stage and keep its average loss."""
        self.average = self.evaluation.close(limited)
