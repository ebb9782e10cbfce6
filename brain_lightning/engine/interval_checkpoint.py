"""Saving interval checkpoints beside training."""

from __future__ import annotations

import logging
from typing import Any

from brain_lightning.ground.loggers import get_logger
from brain_lightning.parts.checkpoints.background_writer import BackgroundSaver
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer

logger = get_logger(__name__)

INTRA_EPOCH_CKPT_FLAG = "brain_intra_epoch_ckpt"
"""The key in a checkpoint's meta that marks an interval checkpoint."""


class IntervalSaver:
    """Saves interval checkpoints, one kept, without letting training wait for the disk.

    Order of calls: ``save`` when a checkpoint is due, ``raise_error`` after each batch, ``wait`` at
    the end of the run.
    """

    def __init__(self) -> None:
        """Begin without a checkpoint being written."""
        self._background: BackgroundSaver | None = None

    def save(self, checkpointer: Any, beside: bool) -> None:
        """Save an interval checkpoint and delete the one before it.

        Args:
            checkpointer: ours or SpeechBrain's; only ours can write beside training.
            beside: whether it may.
        """
        saver = checkpointer
        if beside and isinstance(checkpointer, Checkpointer):
            if self._background is None or self._background.checkpointer is not checkpointer:
                self._background = BackgroundSaver(checkpointer)
            saver = self._background
        saver.save_and_keep_only(
            end_of_epoch=False,
            num_to_keep=1,
            ckpt_predicate=lambda checkpoint: INTRA_EPOCH_CKPT_FLAG in checkpoint.meta,
            meta={INTRA_EPOCH_CKPT_FLAG: True},
            verbosity=logging.DEBUG,
        )

    def raise_error(self) -> None:
        """Raise the error of a write that has ended with one."""
        if self._background is not None and not self._background.is_writing:
            self._background.wait()

    def let_finish(self) -> None:
        """Wait while another error ends the run; an error of the write is in the log already."""
        try:
            self.wait()
        except Exception as error:
            logger.debug("The interval checkpoint was not saved: %s", error)

    def wait(self) -> None:
        """Wait until nothing is being written; raise its error."""
        if self._background is not None:
            self._background.wait()
