"""The training loader of a Trainer that the user made: Lightning iterates it, here it is resumed.

Lightning begins a loader that saves no position anew in the middle of an epoch, and none of the
random numbers are those that were to come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import lightning.pytorch as pl

from brain_lightning.engine import lightning_internals as internals
from brain_lightning.engine.checkpoints.random_replay import LoaderOrder, can_be_repeated
from brain_lightning.parts.checkpoints.random_states import random_states, set_random_states


class TrainersLoader:
    """Notes how each epoch of the Trainer's loaders begins, and brings them into its middle again.

    Order of calls: ``before_first_iterator``, after which Lightning makes the loaders' iterators;
    ``find``; then for each epoch ``begin``, or, where the run is resumed, ``go_on``.
    """

    def __init__(self) -> None:
        """Know nothing of the loaders yet."""
        self.start: dict[str, Any] | None = None
        """How the epoch in progress began, in tensors and plain values."""
        self._before_iterator: dict[str, Any] | None = None
        self._orders: list[LoaderOrder] = []

    def before_first_iterator(self, start: Mapping[str, Any] | None) -> None:
        """Note the random states with which Lightning makes the first iterators.

        Args:
            start: of the epoch to go on with; where that was the first of its run, its iterators
                were made so.
        """
        if start is not None and start["before_iterator"] is not None:
            set_random_states(start["before_iterator"])
        self._before_iterator = random_states()

    def find(self, trainer: pl.Trainer) -> None:
        """Look at the loaders before their first batch."""
        self._orders = [LoaderOrder(loader) for loader in internals.training_loaders(trainer)]

    def begin(self) -> None:
        """Note how an epoch begins, the first batch of which is fetched next."""
        before, self._before_iterator = self._before_iterator, None
        self.start = {
            "before_iterator": before,
            "random_states": random_states(),
            "loaders": self.between_epochs(),
        }

    def between_epochs(self) -> list[dict[str, Any]]:
        """Return what the loaders take into their next epoch."""
        return [order.between_epochs() for order in self._orders]

    def begin_next(self, trainer: pl.Trainer, loaders: Iterable[Mapping[str, Any]]) -> None:
        """Go on after an epoch: note the beginning, then make the iterators that it begins with.

        Args:
            trainer: whose loaders they are.
            loaders: what :meth:`between_epochs` returned.
        """
        self._take_up(loaders)
        self._before_iterator = None
        self.begin()
        if not internals.begins_training_loaders(trainer):
            internals.begin_training_loaders(trainer)

    def go_on(self, trainer: pl.Trainer, start: dict[str, Any], done: int) -> None:
        """Come to batch ``done`` of the epoch that began with ``start``, reading those before."""
        self.start = start
        set_random_states(start["random_states"])
        self._take_up(start["loaders"])
        if start["before_iterator"] is None:
            internals.begin_training_loaders(trainer)
        internals.pass_over_batches(trainer, done)

    def _take_up(self, loaders: Iterable[Mapping[str, Any]]) -> None:
        for order, state in zip(self._orders, loaders, strict=False):
            order.go_on(state)

    def can_go_on(self, trainer: pl.Trainer, recoverables: Iterable[object]) -> bool:
        """Whether the loaders give an epoch again, and Lightning does not recover their position.

        It does so with those that have ``load_state_dict``.
        """
        saved = list(recoverables)
        return all(
            can_be_repeated(loader, saved) and not hasattr(loader, "load_state_dict")
            for loader in internals.training_loaders(trainer)
        )
