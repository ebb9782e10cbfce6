"""A LightningModule whose Brain decides about modes, gradients and devices."""

from __future__ import annotations

import copy
from typing import Any

import lightning.pytorch as pl
from typing_extensions import Self, override

from brain_lightning.engine.stages.evaluation_trials import EvaluationTrials


class BrainGovernedModule(pl.LightningModule):
    """The hooks by which Lightning would do what Brain does, at moments that are not Brain's.

    Most are overridden to do nothing.
    """

    _SHARED_BY_COPIES: frozenset[str] = frozenset()
    _running: bool

    def __init__(self) -> None:
        """Begin as a module that runs nothing."""
        super().__init__()
        self._running = False
        self._trials = EvaluationTrials()

    @override
    def on_validation_model_eval(self) -> None:
        """Switch nothing: the VALID stage does it, after ``on_stage_start``."""
        self._trials.prepare()

    @override
    def on_validation_model_train(self) -> None:
        """Brain leaves its modules in eval mode; the next TRAIN stage switches."""

    @override
    def on_validation_model_zero_grad(self) -> None:
        """The end of the TRAIN stage flushes the gradients."""

    @override
    def on_test_model_eval(self) -> None:
        """Switch nothing: the TEST stage does it, after ``on_stage_start``."""
        self._trials.prepare()

    @override
    def on_test_model_train(self) -> None:
        """Brain leaves its modules in eval mode."""

    @override
    def on_predict_model_eval(self) -> None:
        """Switch nothing: ``on_predict_epoch_start`` does it."""
        self._trials.prepare()

    @override
    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        """Gradients are dropped right after the step, as SpeechBrain does."""

    @override
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Zero all gradients, but not at the start of a run.

        There the Trainer calls it on its own; an ``evaluate()`` in the middle of training must not
        drop what has accumulated.
        """
        if self._running:
            super().zero_grad(set_to_none)

    @override
    def cpu(self) -> Self:
        """Stay: the Trainer's teardown calls this, and recipes go on on ``brain.device``."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the modules; the recipe and the run are the same: averages are made so."""
        copied = self.__class__.__new__(self.__class__)
        memo[id(self)] = copied
        copied.__dict__.update(
            {
                name: value if name in self._SHARED_BY_COPIES else copy.deepcopy(value, memo)
                for name, value in self.__getstate__().items()
            }
        )
        return copied
