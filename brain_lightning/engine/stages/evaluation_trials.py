"""Evaluations that a callback tries out before the one that was asked for."""

from __future__ import annotations


class EvaluationTrials:
    """Tells which evaluation is a trial.

    ``BatchSizeFinder`` runs the loop again and again out of its own ``on_validation_start`` (or of
    a test or a prediction), which comes before the module's. So an evaluation that is prepared
    while another one is prepared and has not started is a trial.

    Order of calls: ``prepare`` for each evaluation, then ``start``.
    """

    def __init__(self) -> None:
        """Begin without an evaluation."""
        self.is_trial = False
        """Whether the evaluation that started last is a trial."""
        self._prepared = 0

    @property
    def may_come(self) -> bool:
        """Whether an evaluation is prepared and has not started."""
        return self._prepared > 0

    def prepare(self) -> None:
        """Note that an evaluation is about to start."""
        self._prepared += 1

    def start(self) -> None:
        """Note that the evaluation that was prepared last starts."""
        self.is_trial = self._prepared > 1
        self._prepared -= 1
