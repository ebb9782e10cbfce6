"""The loaders of a LightningDataModule that is given to ``Brain.fit()``."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.lightning_checkpoint import read_checkpoint_file
from brain_lightning.engine.optimization.batch_size_search import find_in_datamodule
from brain_lightning.engine.stages.datamodule_run import is_loaded_before_loaders, load_state
from brain_lightning.ground.ranks import run_on_main, run_once_per_node


def loaders_of(
    datamodule: Any,
    train_set: Any,
    valid_set: Any,
    brain: BrainProtocol,
    ckpt_path: str | None = None,
) -> tuple[Any, Any]:
    """Prepare and set up a data module and return its training and validation loaders.

    Args:
        datamodule: what the user gave.
        train_set: must be None; it is checked here.
        valid_set: must be None.
        brain: the recipe, whose callbacks may look for a batch size.
        ckpt_path: a checkpoint to go on from, which may have the data module's state.

    Raises:
        TypeError: it is no data module, or a loader of its is not one loader.
        ValueError: data was given twice.
    """
    if not isinstance(datamodule, pl.LightningDataModule):
        raise TypeError(
            f"datamodule must be a lightning.LightningDataModule, got {datamodule!r}. Give data "
            "sets and loaders as train_set and valid_set."
        )
    if train_set is not None or valid_set is not None:
        raise ValueError(
            "fit() was given a datamodule as well as train_set or valid_set. Leave out one."
        )
    find_in_datamodule(brain, datamodule)
    prepare = run_once_per_node if datamodule.prepare_data_per_node else run_on_main
    prepare(datamodule.prepare_data)
    datamodule.setup("fit")
    if is_loaded_before_loaders(ckpt_path):
        assert ckpt_path is not None
        load_state(datamodule, read_checkpoint_file(ckpt_path))
    train = _one_loader(datamodule.train_dataloader(), "train_dataloader")
    defines_validation = (
        type(datamodule).val_dataloader is not pl.LightningDataModule.val_dataloader
    )
    valid = datamodule.val_dataloader() if defines_validation else None
    return train, None if valid is None else _one_loader(valid, "val_dataloader")


def _one_loader(loaders: Any, name: str) -> Any:
    if isinstance(loaders, (list, tuple)) and len(loaders) == 1:
        return loaders[0]
    if isinstance(loaders, (list, tuple, dict)):
        raise TypeError(
            f"{name}() of the datamodule returns {len(loaders)} loaders, but a Brain trains and "
            "validates on one. Return one loader."
        )
    return loaders
