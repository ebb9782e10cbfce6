"""Which optimizers a Brain has, for the callbacks that ask the Trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch.optim import Optimizer

from brain_lightning.engine.brain_protocol import BrainProtocol


def discover_optimizers(brain: BrainProtocol) -> list[Optimizer]:
    """Return every optimizer that can be found on a Brain, each once, in a stable order.

    First ``optimizers_dict``, then attributes of the Brain, then what its checkpointer saves:
    recipes that create optimizers of their own often tell only one of the three.
    """
    found: dict[int, Optimizer] = {}
    for candidate in _candidates(brain):
        if isinstance(candidate, Optimizer):
            found.setdefault(id(candidate), candidate)
    return list(found.values())


def _candidates(brain: BrainProtocol) -> Iterator[Any]:
    if isinstance(brain.optimizers_dict, Mapping):
        yield from brain.optimizers_dict.values()
    yield from vars(brain).values()
    recoverables = getattr(brain.checkpointer, "recoverables", None)
    if isinstance(recoverables, Mapping):
        yield from recoverables.values()
