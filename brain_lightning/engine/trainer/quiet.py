"""Keeps quiet what Lightning says about decisions that are the adapter's, not the user's."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")

_OUR_DECISIONS = (
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
    # The search for a batch size does not validate.
    r"Total length of `list` across ranks is zero",
    # The device is the run option's choice, and so is one process on a machine with SLURM.
    r"GPU available but not used",
    r"The `srun` command is available on your system but is not used",
)


_ABOUT_THE_MODULE = (
    # Brain leaves the modules in eval mode after validation and sets the mode itself.
    r"Found \d+ module\(s\) in eval mode at the start of training",
    r"When using `Trainer\(accumulate_grad_batches != 1\)` and overriding",
    r"You have overridden `transfer_batch_to_device` in `LightningModule` but have passed in a",
    r"Using ModelCheckpoint with manual optimization and every_n_train_steps",
    # What Brain overrides does nothing that DeepSpeed would have to do.
    r"You have overridden the `LightningModule\.backward` hook but it will be ignored since",
    r"Since DeepSpeed handles gradient clipping internally",
)


def _ignore(message: str) -> None:
    """Filter warnings that begin so, once: a new filter makes Python forget what was shown.

    A recipe may have put a filter of its own for all messages in front since, such as "error".
    """
    for action, pattern, *_ in warnings.filters:
        if action == "ignore" and getattr(pattern, "pattern", None) == message:
            return
        if action != "ignore" and pattern is None:
            break
    warnings.filterwarnings("ignore", message=message)


def ignore_warnings_about_the_module() -> None:
    """Say nothing about hooks that BrainModule overrides, in any Trainer."""
    for message in _ABOUT_THE_MODULE:
        _ignore(message)


def ignore_missing_last_checkpoint() -> None:
    """Say nothing where nobody asked for a last checkpoint and there is none."""
    _ignore(r'\.fit\(ckpt_path="last"\) is set, but there is no')


_CALLBACKS_LOGGER = "lightning.pytorch.callbacks"
_RANK_ZERO_LOGGER = "lightning.pytorch.utilities.rank_zero"
_SAID_BY_CALLBACKS = re.compile(r"Epoch \d+, global step|Time limit reached|Learning rate set to")


@contextmanager
def quiet_lightning(callbacks_speak: bool = False) -> Iterator[None]:
    """Silence Lightning's banners and tips while a run lasts; its warnings stay.

    Warnings about what the adapter decided are filtered by their text, for good: a filter that is
    put back would reset Python's memory of what was shown once.

    Args:
        callbacks_speak: the user has asked for callbacks, so what they say is heard.
    """
    for message in _OUR_DECISIONS:
        _ignore(message)
    wanted = dict.fromkeys(_LOGGERS, logging.WARNING)
    if callbacks_speak:
        wanted |= {_CALLBACKS_LOGGER: logging.INFO, _RANK_ZERO_LOGGER: logging.INFO}
    levels = {name: logging.getLogger(name).level for name in wanted}
    for name, level in wanted.items():
        # a level that the user has set higher stays
        logging.getLogger(name).setLevel(max(level, logging.getLogger(name).level))
    logging.getLogger(_RANK_ZERO_LOGGER).addFilter(_is_heard)
    try:
        yield
    finally:
        logging.getLogger(_RANK_ZERO_LOGGER).removeFilter(_is_heard)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _is_heard(record: logging.LogRecord) -> bool:
    """Tell what callbacks report from Lightning's banners, which come from the same logger."""
    is_report = _SAID_BY_CALLBACKS.search(record.getMessage()) is not None
    return record.levelno > logging.INFO or is_report
