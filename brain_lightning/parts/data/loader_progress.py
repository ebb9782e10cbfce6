"""How far the iteration of a loader has come, as it counts and as a checkpoint file says it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import override

from brain_lightning.parts.data.iteration_start import IterationStart
from brain_lightning.parts.data.loading_workers import WorkerStates


@dataclass
class Progress:
    """How far an iteration has come, or where the next one starts."""

    position: int
    finished: bool
    start: IterationStart | None
    workers: WorkerStates = field(default_factory=WorkerStates)
    dataset_generators: Mapping[str, Any] = field(default_factory=dict)
    """Where to go on with the data set's own; of an iteration that runs, they are there."""


class CountingIterator(Iterator[Any]):
    """The batches of one iteration, counted as they are handed over."""

    def __init__(self, batches: Iterator[Any], progress: Progress) -> None:
        """Count what ``batches`` gives in ``progress``."""
        self._batches = batches
        self._progress = progress

    @override
    def __next__(self) -> Any:
        """Hand over the next batch."""
        try:
            batch = next(self._batches)
        except StopIteration:
            self._progress.finished = True
            raise
        self._progress.position += 1
        return batch

    def become(self, other: CountingIterator) -> None:
        """Hand over what ``other`` would have."""
        self._batches, self._progress = other._batches, other._progress

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        return len(self._batches)  # type: ignore[arg-type]  # torch's iterators have one


def position_in(state: Mapping[str, Any]) -> int | None:
    """Return the position in a loader's ``state_dict()``; None before the first iteration.

    Raises:
        ValueError: it is no such state.
    """
    position = state.get("position", "missing")
    if position is None:
        return None
    if isinstance(position, bool) or not isinstance(position, int) or position < 0:
        raise ValueError(
            f"The state of a data loader has the position {position!r}, but needs a number of "
            "batches (0 or more) or None: give what state_dict() returned."
        )
    return position


def read_position(path: str | Path) -> int | None:
    """Return the position in a loader's checkpoint file; None before the first iteration.

    Raises:
        ValueError: the file holds neither a position nor ``None``.
    """
    text = Path(path).read_text(encoding="utf-8").strip()
    if text == "None":
        return None
    if not text.isdecimal():
        raise ValueError(
            f"{path} should hold the position of a data loader, a number of batches or None, but "
            f"holds {text[:50]!r}."
        )
    return int(text)
