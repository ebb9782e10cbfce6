"""LearningRateFinder in a fit that goes on from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable

import lightning.pytorch as pl
from lightning.pytorch.callbacks import LearningRateFinder

from brain_lightning.engine.lightning_internals import is_tuners
from brain_lightning.engine.trainer.trainer_callbacks import callbacks_of, pass_over
from brain_lightning.ground.loggers import get_logger

logger = get_logger(__name__)


def pass_over_search(trainer: pl.Trainer, module: pl.LightningModule) -> Callable[[], None]:
    """Keep the callback from searching: the checkpoint has the rate that training came to.

    ``Tuner.lr_find`` is asked for the search itself, and searches.

    Returns:
        What lets it search in the next fit.
    """
    finders = [
        each
        for each in callbacks_of(trainer)
        if isinstance(each, LearningRateFinder) and not is_tuners(each)
    ]
    if finders:
        logger.info("LearningRateFinder: the learning rate of the checkpoint is gone on with.")
    return pass_over(finders, "on_fit_start", module)
