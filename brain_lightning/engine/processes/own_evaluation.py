"""Whether a process can evaluate by itself, without the others."""

from __future__ import annotations

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.trainer.strategy_choice import strategy_in
from brain_lightning.parts.recipe_rules.strategy_rules import DDP, WHOLE_MODULE_DDP


def evaluates_by_itself(brain: BrainProtocol) -> bool:
    """Whether an ``evaluate()`` that begins now exchanges nothing with other processes.

    SpeechBrain's never does, so recipes may let the main process alone call it. Inside of another
    run all processes are there; callbacks and profilers are set up by all together.
    """
    connection = connection_of(brain)
    settings = connection.settings
    return (
        connection.module is None
        and not settings.shard_evaluation
        and not any(settings.trainer.get(name) for name in ("callbacks", "profiler"))
        and strategy_in(settings.trainer) in (DDP, WHOLE_MODULE_DDP)
    )
