"""A fit in a Trainer that the user made: the Trainer counts the epochs and iterates the loaders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import lightning.pytorch as pl
from typing_extensions import override

from brain_lightning.engine import lightning_internals as internals
from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.fit_position import TRAINING, FitPosition
from brain_lightning.engine.checkpoints.resume import Resume
from brain_lightning.engine.checkpoints.trainers_loader import TrainersLoader
from brain_lightning.engine.stages.fit_run import FitRun
from brain_lightning.parts.checkpoints.random_states import random_states, set_random_states


class UsersFitRun(FitRun):
    """What is known of such a fit while it lasts.

    Lightning itself goes on from a checkpoint here, and has counted epochs and batches by then;
    what is left to be done is in :meth:`_take_up`.
    """

    def __init__(self, brain: BrainProtocol) -> None:
        """Prepare a run of ``brain``; the Trainer has its loaders."""
        super().__init__(brain)
        self._loaders = TrainersLoader()
        self._left: FitPosition | None = None

    @override
    def _go_to(self, trainer: pl.Trainer, position: FitPosition, resumed: Sequence[object]) -> None:
        self._left = position

    @property
    @override
    def _place_of_trainers_loader(self) -> dict[str, Any]:
        return {"start": self._loaders.start, "next": self._loaders.between_epochs()}

    @override
    def before_loaders(self) -> None:
        """Be ready for the moment at which Lightning makes the iterators."""
        in_epoch = self._left is not None and self._left.phase == TRAINING
        place = self._left.trainers_loader if self._left is not None and in_epoch else {}
        self._loaders.before_first_iterator(place.get("start"))

    @override
    def _begin_training(self, trainer: pl.Trainer) -> None:
        self._loaders.find(trainer)
        left, resume = self._left, self._resume
        if left is not None and left.phase == TRAINING and resume is not None:
            self._left = None
            self._take_up(trainer, left, resume)

    def _take_up(self, trainer: pl.Trainer, left: FitPosition, resume: Resume) -> None:
        """Go on in the middle of an epoch, before its next batch is fetched."""
        if left.step < trainer.num_training_batches:
            self.open_epoch(trainer)
            if self._loaders.can_go_on(trainer, self._recoverables):
                self._loaders.go_on(trainer, left.trainers_loader["start"], left.step)
            resume.before_first_batch(self.brain)
            if left.validation_due:
                internals.run_validation_loop(trainer)
        else:
            self._end_epoch_left(trainer, left, resume)
            if not internals.has_more_epochs(trainer):
                return
            self.open_epoch(trainer)
            self._loaders.begin_next(trainer, left.trainers_loader["next"])
        internals.before_next_training_batch(trainer, partial(set_random_states, random_states()))

    def _end_epoch_left(self, trainer: pl.Trainer, left: FitPosition, resume: Resume) -> None:
        """Do what came after an epoch's last batch; Lightning takes the epoch for done."""
        assert left.epoch is not None
        self._resume = None
        self.training.open(left.epoch)
        self.phase = TRAINING
        resume.before_first_batch(self.brain)
        self._close_training(trainer)
        if internals.validation_is_due(trainer):
            internals.run_validation_loop(trainer)

    @override
    def _next_epoch(self, trainer: pl.Trainer) -> int:
        return trainer.current_epoch + 1

    @override
    def _open_loader(
        self, trainer: pl.Trainer, resume: Resume | None, position: FitPosition | None
    ) -> None:
        left, self._left = self._left, None
        if left is not None:
            self._loaders.begin_next(trainer, left.trainers_loader.get("next", ()))
        else:
            self._loaders.begin()
