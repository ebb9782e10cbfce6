"""What is remembered of a Brain's evaluations from one stage to the next, and said once."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from torch.utils.weak import WeakIdKeyDictionary

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.stage import Stage
from brain_lightning.parts.metrics.accumulation import Accumulation

logger = get_logger(__name__)


@dataclass
class EvaluationMemory:
    """What is known of a Brain from its earlier stages."""

    shared: set[Stage] = field(default_factory=set)
    """Kinds of stages that were shared out."""
    unshareable: set[Stage] = field(default_factory=set)
    """Those of which something cannot be gathered."""
    told: set[str] = field(default_factory=set)
    loaders: MutableMapping[Any, Any] = field(default_factory=WeakIdKeyDictionary)
    """Of each loader, what gives this process's share: kept because workers may persist."""
    accumulation: Accumulation | None = None
    """What the last stage gathered, while somebody may still read its metrics."""

    def tell(self, text: str) -> None:
        """Warn, once."""
        if text not in self.told:
            self.told.add(text)
            logger.warning("%s.", text.removesuffix("."))

    def tell_that_whole(self, stage: Stage, reason: str) -> None:
        """Warn that every process runs all of a stage."""
        self.tell(f"shard_evaluation is on, but every process runs all of {stage.name}: {reason}")


_memories: MutableMapping[Any, EvaluationMemory] = WeakIdKeyDictionary()


def memory_of(brain: BrainProtocol) -> EvaluationMemory:
    """Return what is known of a Brain."""
    return _memories.setdefault(brain, EvaluationMemory())


def release_metrics(brain: BrainProtocol) -> None:
    """Let metrics that were gathered exchange their states by themselves again."""
    memory = _memories.get(brain)
    if memory is not None and memory.accumulation is not None:
        memory.accumulation.release()
        memory.accumulation = None
