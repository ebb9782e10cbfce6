"""BatchSizeFinder in ``Brain.fit()``: the search comes before the loaders are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import BatchSizeFinder
from typing_extensions import override

from brain_lightning.engine.brain_module import BrainModule
from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.trainer.quiet import quiet_lightning
from brain_lightning.engine.trainer.trainer_configuration import (
    make_trial_trainer,
    only_before_loaders,
)
from brain_lightning.ground.errors import OptionError
from brain_lightning.ground.loggers import get_logger
from brain_lightning.parts.checkpoints.random_states import random_states, set_random_states

logger = get_logger(__name__)

MakeLoader = Callable[..., Any]


def with_found_batch_size(
    brain: BrainProtocol,
    make_loader: MakeLoader,
    is_dataset: bool,
    loader_kwargs: Mapping[str, Any],
) -> Mapping[str, Any]:
    """Return the arguments of the training loader, with the batch size that was found.

    Without a BatchSizeFinder they are returned as they are. With one, training is tried out with
    one batch size after the other, and everything is put back: weights, recoverables and random
    numbers are as before.

    Args:
        brain: the recipe.
        make_loader: makes the training loader from such arguments; it must not be saved.
        is_dataset: whether ``fit()`` was given a data set, and so makes the loader.
        loader_kwargs: the arguments that the recipe gave.

    Raises:
        OptionError: the recipe leaves nothing to be found.
    """
    finder = _finder(brain)
    if finder is None:
        return loader_kwargs
    if not is_dataset or "batch_size" not in loader_kwargs:
        given = "no batch_size in train_loader_kwargs" if is_dataset else "a loader as train_set"
        raise OptionError(
            "trainer: the callback BatchSizeFinder needs fit() to have train_set as a data set "
            f"and train_loader_kwargs with batch_size, but it was given {given}. Leave out the "
            "callback, or give both."
        )
    data = _Batches(make_loader, loader_kwargs)
    _search(brain, finder, data)
    return data.loader_kwargs


def find_in_datamodule(brain: BrainProtocol, datamodule: pl.LightningDataModule) -> None:
    """Set the ``batch_size`` of a data module, where a BatchSizeFinder was given."""
    finder = _finder(brain)
    if finder is not None:
        _search(brain, finder, datamodule)


def _finder(brain: BrainProtocol) -> BatchSizeFinder | None:
    connection = connection_of(brain)
    if connection.module is not None:  # callbacks follow the outer run
        return None
    found = only_before_loaders(connection.settings.trainer.get("callbacks"))
    return found[0] if found else None


class _Batches(pl.LightningDataModule):
    """The recipe's training data, with a batch size that can be set."""

    def __init__(self, make_loader: MakeLoader, loader_kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.batch_size = loader_kwargs["batch_size"]
        self._make_loader = make_loader
        self._loader_kwargs = loader_kwargs

    @property
    def loader_kwargs(self) -> dict[str, Any]:
        return {**self._loader_kwargs, "batch_size": self.batch_size}

    @override
    def train_dataloader(self) -> Any:
        return self._make_loader(**self.loader_kwargs)

    @override
    def val_dataloader(self) -> Any:
        return []  # Lightning asks, where there is a validation_step


class _FoundError(Exception):
    """The search is over; the run that it took place in ends."""


class _EndsAfterTheSearch(pl.Callback):
    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        raise _FoundError


def _search(brain: BrainProtocol, finder: BatchSizeFinder, data: pl.LightningDataModule) -> None:
    states = random_states()
    with quiet_lightning():
        trainer = make_trial_trainer(
            brain, connection_of(brain).settings, [finder, _EndsAfterTheSearch()]
        )
        try:
            trainer.fit(BrainModule(brain), datamodule=data)
        except _FoundError:
            logger.info("BatchSizeFinder: the batch size is %s.", finder.optimal_batch_size)
        finally:
            set_random_states(states)
