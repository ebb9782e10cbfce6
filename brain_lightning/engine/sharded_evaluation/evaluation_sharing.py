"""``shard_evaluation``: whether the processes share a stage, and what they are told if not."""

from __future__ import annotations

from typing import Any

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.sharded_evaluation.evaluation_memory import memory_of, release_metrics
from brain_lightning.engine.sharded_evaluation.main_buffers import exchanges_in_training_mode
from brain_lightning.engine.sharded_evaluation.shared_evaluation import SharedEvaluation
from brain_lightning.engine.trainer.placement import runs_among_others
from brain_lightning.ground.stage import Stage
from brain_lightning.parts.data.batch_share import why_not_shared


def shared_evaluation(
    brain: BrainProtocol, stage: Stage, loader: Any, limited: bool
) -> SharedEvaluation | None:
    """Return how this process takes part in a stage that begins, or None where it runs it whole.

    Args:
        brain: the recipe.
        stage: VALID or TEST.
        loader: of the stage.
        limited: a limit of the Trainer's cuts the stage.
    """
    release_metrics(brain)
    if not _is_asked_for(brain):
        return None
    memory = memory_of(brain)
    if stage in memory.unshareable:
        return None
    reason = _why_whole(brain, loader, limited)
    if reason is not None:
        memory.tell_that_whole(stage, reason)
        return None
    return SharedEvaluation(brain, stage, loader, memory)


def warn_in_users_trainer(brain: BrainProtocol, stage: Stage) -> None:
    """Say that a Trainer of the user's decides by itself which batches a process gets."""
    if _is_asked_for(brain):
        reason = "a Trainer of your own gives out the batches, not Brain.fit() or Brain.evaluate()"
        memory_of(brain).tell(f"shard_evaluation has no effect on {stage.name}: {reason}")


def _is_asked_for(brain: BrainProtocol) -> bool:
    return connection_of(brain).settings.shard_evaluation and runs_among_others(brain)


def _why_whole(brain: BrainProtocol, loader: Any, limited: bool) -> str | None:
    if limited:
        return "the Trainer limits its batches"
    reason = why_not_shared(loader)
    if reason is not None:
        return reason
    module = exchanges_in_training_mode(getattr(brain, "hparams", None), brain.modules)
    if module is None:
        return None
    return f"{module} is in training mode, in which it waits for other processes: put it in modules"
