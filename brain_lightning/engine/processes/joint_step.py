"""What several processes decide together around a training batch."""

from __future__ import annotations

import lightning.pytorch as pl

from brain_lightning.engine import lightning_internals as internals
from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.requeue import Requeue
from brain_lightning.engine.stages.batch_tickets import BatchTickets
from brain_lightning.engine.stages.nonfinite_losses import patience_exhausted
from brain_lightning.ground.joint_decision import highest
from brain_lightning.ground.loggers import get_logger

logger = get_logger(__name__)


def decides_together(trainer: pl.Trainer) -> bool:
    """Whether the Trainer's run is one of several processes."""
    return trainer.world_size > 1


def ends_for_all(
    trainer: pl.Trainer,
    brain: BrainProtocol,
    tickets: BatchTickets | None,
    ends_here: bool,
    requeue: Requeue,
) -> bool:
    """Decide after a batch whether the epoch ends, with one exchange for all that is shared.

    The epoch ends where the first process has no more batches: the others leave theirs out, since
    a step needs the gradients of all. A stop that one process wants, a signal that one received,
    and losses that are not finite in one are shared too.

    Args:
        trainer: of the run.
        brain: the recipe.
        tickets: the training loader's, or None where the user's Trainer iterates.
        ends_here: whether the epoch ends for this process.
        requeue: whether SLURM has told this process to be queued again.

    Returns:
        Whether it ends for all.

    Raises:
        ValueError: there were too many batches in which a loss was not finite.
    """
    has_more = tickets is None or ends_here or tickets.has_more()
    ended, stop, terminated, requeued, nonfinite = highest(
        ends_here or not has_more,
        trainer.should_stop,
        trainer.received_sigterm,
        requeue.signal is not None,
        getattr(brain, "nonfinite_count", 0),
    )
    brain.nonfinite_count = nonfinite
    patience = getattr(brain, "nonfinite_patience", nonfinite)
    if nonfinite > patience:
        raise patience_exhausted(nonfinite, patience)
    requeue.is_agreed = bool(requeued)
    if terminated:
        internals.receive_sigterm(trainer)
    if stop:
        trainer.should_stop = True
    if ended and not ends_here:
        if has_more and not stop:
            _tell_of_surplus()
        internals.end_epoch_after_this_batch(trainer)
    return bool(ended)


def all_have_a_batch(tickets: BatchTickets) -> bool:
    """Whether an epoch can begin: no process is without any batch."""
    has_more = tickets.has_more()
    all_have = not highest(not has_more)[0]
    if has_more and not all_have:
        _tell_of_surplus()
    return all_have


def wanted_by_any(trainer: pl.Trainer, wanted_here: bool) -> bool:
    """Whether any process of the run wants it, such as the end after an epoch."""
    return bool(highest(int(wanted_here))[0]) if decides_together(trainer) else wanted_here


def fewest_of_all(trainer: pl.Trainer, batches: int) -> int:
    """Return the smallest number of batches that a process of the run has."""
    return -highest(-batches)[0] if decides_together(trainer) else batches


def _tell_of_surplus() -> None:
    logger.warning(
        "Another process has no more batches in this epoch, so it ends here for all; the batches "
        "that this process still has are left out. Give all processes as many batches.",
        main_process_only=False,
    )
