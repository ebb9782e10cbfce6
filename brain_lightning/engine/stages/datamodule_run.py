"""What a LightningDataModule is told of a ``Brain.fit()``: the Trainer does not know of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from typing_extensions import override


def is_loaded_before_loaders(ckpt_path: str | None) -> bool:
    """Whether it is known which checkpoint is gone on from when the loaders are made."""
    return ckpt_path is not None and os.path.isfile(ckpt_path)


def load_state(datamodule: pl.LightningDataModule, checkpoint: Mapping[str, Any]) -> None:
    """Load a data module's state, where the checkpoint has one."""
    name = type(datamodule).__qualname__
    if name in checkpoint:
        datamodule.load_state_dict(checkpoint[name])


class EndOfDataModule(pl.Callback):
    """Tells a data module that its run has ended; the Trainer does not know that there is one.

    It comes behind all other callbacks, so an error's checkpoint is saved before.
    """

    def __init__(self, datamodule: pl.LightningDataModule) -> None:
        """Tell ``datamodule``."""
        self._datamodule = datamodule

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._datamodule.on_exception(exception)

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._datamodule.teardown(stage)
