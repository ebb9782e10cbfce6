"""Saving interval checkpoints beside training."""

from __future__ import annotations

import logging
from typing import Any

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.ground.loggers import get_logger
from brain_lightning.parts.checkpoints.background_writer import BackgroundSaver
from brain_lightning.parts.checkpoints.checkpoint import PARAMFILE_EXT
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.resume_file import resume_path

logger = get_logger(__name__)

INTRA_EPOCH_CKPT_FLAG = "brain_intra_epoch_ckpt"
"""The key in a checkpoint's meta that marks an interval checkpoint."""


class IntervalSaver:
    """Saves interval checkpoints, one kept, without letting training wait for the disk.

    Order of calls: ``prepare`` after a batch before the first save, ``save`` when a checkpoint is
    due, ``raise_error`` after each batch, ``wait`` at the end of the run.
    """

    def __init__(self) -> None:
        """Begin without a checkpoint being written."""
        self._background: BackgroundSaver | None = None
        self._is_prepared = False

    def prepare(self, brain: BrainProtocol, beside: bool) -> None:
        """Get the memory for the first snapshot, once, beside training.

        Args:
            brain: the recipe, after an optimizer step.
            beside: whether checkpoints are written beside training.
        """
        if self._is_prepared or not beside or not isinstance(brain.checkpointer, Checkpointer):
            return
        self._is_prepared = True
        self._saver_beside(brain.checkpointer).prepare(_gradients_to_come(brain))

    def _saver_beside(self, checkpointer: Checkpointer) -> BackgroundSaver:
        if self._background is None or self._background.checkpointer is not checkpointer:
            self._background = BackgroundSaver(checkpointer)
        return self._background

    def save(self, checkpointer: Any, beside: bool) -> None:
        """Save an interval checkpoint and delete the one before it.

        Args:
            checkpointer: ours or SpeechBrain's; only ours can write beside training.
            beside: whether it may.
        """
        saver = checkpointer
        if beside and isinstance(checkpointer, Checkpointer):
            saver = self._saver_beside(checkpointer)
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


def _gradients_to_come(brain: BrainProtocol) -> dict[str, Any]:
    """Return what is as large as the gradients that interval checkpoints will hold.

    Empty where they fall after optimizer steps, when there are none.
    """
    steps, minutes = brain.ckpt_interval_steps, brain.ckpt_interval_minutes
    if minutes <= 0 and steps % brain.grad_accumulation_factor == 0:
        return {}
    if brain.grad_accumulation_factor == 1:
        return {}
    trained = {name: each for name, each in brain.modules.named_parameters() if each.requires_grad}
    names = [name for name, each in brain.checkpointer.recoverables.items() if each is brain]
    return {resume_path(name + PARAMFILE_EXT).name: {"gradients": trained} for name in names}
