"""Steps of optimizers that a recipe makes and does not count.

``trainer.global_step`` is the Brain's ``optimizer_step``, which the default ``optimizers_step``
counts. A recipe with a ``fit_batch`` of its own often does not: checkpoints by steps, ``max_steps``
and the loggers' x axes would stand still at zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.defaults import is_overridden

KEY = "uncounted_steps"
"""Where a checkpoint has their number."""

_COUNTING = ("fit_batch", "optimizers_step")


def steps_done(brain: BrainProtocol) -> int:
    """Return how many optimizer steps there were, those that the recipe does not count included.

    Two optimizers that step in one batch are one step.
    """
    return brain.optimizer_step + connection_of(brain).uncounted_steps


def restore_uncounted_steps(brain: BrainProtocol, state: Mapping[str, Any] | None) -> None:
    """Go on counting after a checkpoint, given what it has for an exact resume, if anything."""
    if state is not None:
        connection_of(brain).uncounted_steps = state.get(KEY, 0)


@contextmanager
def steps_noticed(brain: BrainProtocol) -> Iterator[None]:
    """Count a batch in which an optimizer steps and ``optimizer_step`` stays as it is."""
    if not any(is_overridden(brain, name) for name in _COUNTING):
        yield
        return
    counted = brain.optimizer_step
    stepped: list[bool] = []

    def note(*_: Any) -> None:
        stepped.append(True)

    # A hook of all optimizers: the recipe may have made one that nobody else knows.
    handle = register_optimizer_step_post_hook(note)
    try:
        yield
    finally:
        handle.remove()
    if stepped and brain.optimizer_step == counted:
        connection_of(brain).uncounted_steps += 1
