"""What a recipe notes on its Brain at the end of a TRAIN stage, for the VALID stage after it.

``self.train_stats``, set in ``on_stage_end(TRAIN)``, is logged in ``on_stage_end(VALID)``: a run
that is interrupted in its validation, and goes on there, must find it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.plain_trees import from_plain, to_plain
from brain_lightning.engine.connection import ATTRIBUTE
from brain_lightning.ground.loggers import get_logger

logger = get_logger(__name__)

# These are where the run is, and set from there.
_OF_THE_RUN = frozenset({ATTRIBUTE, "step", "optimizer_step", "avg_train_loss", "nonfinite_count"})


class TrainingNotes:
    """The attributes of a Brain that one TRAIN stage's end set, or changed.

    Order of calls: made before ``on_stage_end``, ``take`` after it, ``state`` at a save.
    """

    def __init__(self, brain: BrainProtocol) -> None:
        """Remember what there is before."""
        self._brain = brain
        self._before = _contents(brain)
        self._names: list[str] = []

    def take(self) -> None:
        """See what is there now."""
        before, self._before = self._before, {}
        for name, content in _contents(self._brain).items():
            if name not in before or not _is_same(content, before[name]):
                self._names.append(name)

    def state(self) -> dict[str, Any]:
        """Return them as tensors and plain values; others are left out, and named in the log."""
        saved = {}
        for name in self._names:
            try:
                saved[name] = to_plain(vars(self._brain)[name])
            except (KeyError, TypeError) as error:
                logger.info("brain.%s is not in the checkpoint of a validation: %s", name, error)
        return saved


def restore_notes(brain: BrainProtocol, state: Mapping[str, Any]) -> None:
    """Set the attributes that :meth:`TrainingNotes.state` returned."""
    for name, value in state.items():
        setattr(brain, name, from_plain(value, brain.device))


def _contents(brain: BrainProtocol) -> dict[str, tuple[Any, list[Any] | None]]:
    """Return each attribute, and what is in it where it is a dictionary or a list."""
    contents: dict[str, tuple[Any, list[Any] | None]] = {}
    for name, value in vars(brain).items():
        parts: list[Any] | None = None
        if type(value) is dict:
            parts = [each for pair in value.items() for each in pair]
        elif type(value) is list:
            parts = list(value)
        if name not in _OF_THE_RUN:
            contents[name] = (value, parts)
    return contents


def _is_same(now: tuple[Any, list[Any] | None], before: tuple[Any, list[Any] | None]) -> bool:
    if now[0] is not before[0]:
        return False
    parts, earlier = now[1] or [], before[1] or []
    return len(parts) == len(earlier) and all(a is b for a, b in zip(parts, earlier, strict=True))
