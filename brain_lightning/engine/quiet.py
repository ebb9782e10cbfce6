"""Keeps quiet what Lightning says about decisions that are the adapter's, not the user's."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")

_OUR_DECISIONS = (
    # Brain leaves the modules in eval mode after validation and sets the mode itself.
    r"Found \d+ module\(s\) in eval mode at the start of training",
    # A loader is the recipe's business.
    r"The '\w+_dataloader' does not have many workers",
    r"Your `IterableDataset` has `__len__` defined",
    r"You defined a `validation_step` but have no `val_dataloader`",
    r"`training_step` returned `None`",
    # Brain's recipes move their batches themselves; a bare batch size guess is never used.
    r"Trying to infer the `batch_size` from an ambiguous collection",
    # Only reported when the user asked for a logger, and then for short epochs.
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    # Lightning 2.6 with torch 2.13; nobody but them can do anything about it.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # Each process has its own average loss, as in SpeechBrain.
    r"It is recommended to use `self\.log\('(train|valid|test)_loss', \.\.\., sync_dist=True\)`",
    # OnExceptionCheckpoint: Lightning looks for its file by itself, and says it in other words.
    r"`\.fit\(ckpt_path=None\)` was called without a model",
    # ModelCheckpoint after a step is after the optimizer's step: Brain's resume counts on it.
    r"Using ModelCheckpoint with manual optimization and every_n_train_steps",
    # The device is the run option's choice.
    r"GPU available but not used",
)


def ignore_missing_last_checkpoint() -> None:
    """Say nothing where nobody asked for a last checkpoint and there is none."""
    warnings.filterwarnings("ignore", message=r'\.fit\(ckpt_path="last"\) is set, but there is no')


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's banners and tips while a run lasts; its warnings stay.

    Warnings about what the adapter decided are filtered by their text, for good: a filter that is
    put back would reset Python's memory of what was shown once.
    """
    for message in _OUR_DECISIONS:
        warnings.filterwarnings("ignore", message=message)
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if logger.level <= logging.INFO:
            logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
