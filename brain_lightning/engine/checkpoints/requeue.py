"""SLURM's signal that the time is nearly up, and which checkpoint the next job goes on from.

Lightning saves ``hpc_ckpt_N.ckpt`` and has the job queued again in the very moment of the signal,
which may be in the middle of an optimizer's step. Here both wait until the batch is done.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import OnExceptionCheckpoint

from brain_lightning.engine import lightning_internals as internals
from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.fit_position import DONE, TRAINING
from brain_lightning.engine.checkpoints.lightning_checkpoint import KEY, read_checkpoint_file
from brain_lightning.engine.processes.rank_states import rank_states_known
from brain_lightning.engine.trainer.trainer_callbacks import callbacks_of
from brain_lightning.ground.joint_decision import highest, main_process_decides
from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.ranks import if_main_process
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.resume_file import read_resume_file

logger = get_logger(__name__)

Progress = tuple[int, int]
"""Training batches done, and then: 0 in an epoch, 1 after its TRAIN stage, 2 at its end."""


class Requeue:
    """A request to save and to be queued again, which waits for a moment between two batches."""

    def __init__(self) -> None:
        """Begin without a request."""
        self.signal: int | None = None
        """The signal that this process got, until it is served."""
        self.is_agreed = False
        """Whether all processes know of it."""

    def listen(self, trainer: pl.Trainer) -> None:
        """Take Lightning's place as the one that its requeue signal calls."""
        internals.call_on_requeue_signal(trainer, self._note)

    def _note(self, signum: int, frame: object) -> None:
        self.signal = signum

    def serve(self, trainer: pl.Trainer, brain: BrainProtocol) -> None:
        """Save and have the job queued again, where that was asked for.

        All processes call it, between two batches.
        """
        if not self.is_agreed and (self.signal is None or trainer.world_size > 1):
            return
        signum = signal.SIGUSR1 if self.signal is None else self.signal
        self.signal, self.is_agreed = None, False
        with rank_states_known(brain, gradients=True):
            internals.requeue(trainer, signum)

    def serve_in_validation(self, trainer: pl.Trainer, brain: BrainProtocol, is_last: bool) -> None:
        """Do so in a validation, which may take longer than the time that is left.

        All processes call it after each batch, and once with ``is_last``: some may have fewer
        batches, and wait there for the others.
        """
        if trainer.world_size == 1:
            self.serve(trainer, brain)
            return
        while internals.can_be_requeued(trainer):
            self.is_agreed, unfinished = map(bool, highest(self._is_wanted, not is_last))
            self.serve(trainer, brain)
            if not (is_last and unfinished):
                break

    def serve_between_stages(self, trainer: pl.Trainer, brain: BrainProtocol) -> None:
        """Do so after an epoch, which may be the last; all processes call it."""
        self.serve_in_validation(trainer, brain, is_last=True)

    @property
    def _is_wanted(self) -> bool:
        return self.is_agreed or self.signal is not None


def requeue_without_saving(trainer: pl.Trainer) -> None:
    """Have the signal queue the job again at once, where the run trains nothing.

    Lightning would save a checkpoint of an evaluation, and the next job's training begin with it.
    """
    internals.call_on_requeue_signal(trainer, _requeue_job)


def _requeue_job(signum: int, frame: object) -> None:
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if not if_main_process():
        return
    try:
        subprocess.run(["scontrol", "requeue", job], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        logger.warning("The job %s could not be queued again: %s", job, error)


def prefer_newest_progress(trainer: pl.Trainer, brain: BrainProtocol) -> None:
    """Keep Lightning from a checkpoint of its own choice where the Checkpointer's is further on.

    Without ``ckpt_path`` Lightning goes on from SLURM's requeue checkpoint, and from that of
    ``OnExceptionCheckpoint``, as long as there is one, however much has been trained since.
    """
    found = [internals.requeue_checkpoint(trainer)]
    found += [
        each.ckpt_path for each in callbacks_of(trainer) if isinstance(each, OnExceptionCheckpoint)
    ]
    progress = [_progress_in(Path(path)) for path in found if path is not None]
    known = [each for each in progress if each is not None]
    newest = _progress_of_checkpointer(brain.checkpointer) if known else None
    ahead = newest is not None and newest > max(known)
    if brain.distributed_launch:
        ahead = main_process_decides(ahead)
    if ahead:
        logger.info("The Checkpointer's newest checkpoint is further on than Lightning's: it rules")
        internals.look_for_no_checkpoint(trainer)


def _progress_in(path: Path) -> Progress | None:
    if not path.is_file():
        return None
    run: Any = (read_checkpoint_file(path).get(KEY) or {}).get("run")
    if run is None:
        return None
    phase = {TRAINING: 0, DONE: 2}.get(run["phase"], 1)
    return int(run["total_batches"]), phase


def _progress_of_checkpointer(checkpointer: object) -> Progress | None:
    newest = checkpointer.find_checkpoint() if isinstance(checkpointer, Checkpointer) else None
    if newest is None or "brain" not in newest.paramfiles:
        return None
    try:
        state = read_resume_file(newest.paramfiles["brain"])
    except ValueError:  # damaged: whoever recovers it says so
        return None
    total = None if state is None else state.get("total_batches")
    return None if total is None else (int(total), 2 if newest.meta.get("end-of-epoch") else 0)
