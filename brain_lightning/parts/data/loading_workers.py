"""Workers of a loader that report their random numbers, and go on with those of earlier ones.

A worker is seeded when it starts, and loads every n-th batch. So a worker that is started in the
middle of an epoch would draw the numbers of the epoch's beginning again. Each batch therefore comes
with the random states that its worker had then. Workers load ahead: the states that came with the
last batch that was *handed over* are the ones to go on from.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from torch.utils.data import get_worker_info
from typing_extensions import override

from brain_lightning.parts.checkpoints.random_states import (
    packed_random_states,
    processor_random_states,
    set_processor_random_states,
    unpacked_random_states,
)
from brain_lightning.parts.data.dataset_generators import (
    dataset_generator_states,
    set_dataset_generator_states,
)


class WorkerBatch(NamedTuple):
    """What a worker sends; a named tuple, which torch's pinning of memory makes again."""

    batch: Any
    worker: int
    states: bytes
    """Packed; empty where they are those that came with the worker's batch before."""


class LoadingWorkers:
    """What each worker of a loader does beside loading; a copy of it is in each.

    Args:
        collate: the loader's own function.
        initialize: the loader's own ``worker_init_fn``.
        states: what the workers go on with, by their numbers.
        passed_over: so many batches come first that only stand for used ones, so that each of the
            others goes to the worker whose turn it is.
        generators_at_first: the names of those that the data set was made with.
        says_all: say with each batch what the states are, also where nothing was drawn: workers
            that persist may have sent batches that nobody took.
    """

    def __init__(
        self,
        collate: Callable[[Any], Any],
        initialize: Callable[[int], None] | None = None,
        states: Mapping[int, dict[str, Any]] | None = None,
        passed_over: int = 0,
        generators_at_first: Collection[str] | None = None,
        says_all: bool = False,
    ) -> None:
        """Be ready to be sent to the workers."""
        self._says_all = says_all
        self._said = b""
        self._generators_at_first = generators_at_first
        self._collate = collate
        self._initialize = initialize
        self._states = states
        self._passed_over = passed_over
        self._before_passing_over: dict[str, Any] | None = None

    def start(self, worker: int) -> None:
        """Begin as torch has seeded the worker, or go on; torch calls this in each."""
        if self._initialize is not None:
            self._initialize(worker)
        states = (self._states or {}).get(worker)
        if states is not None:
            _set(states)
        if worker < self._passed_over:
            self._before_passing_over = {**processor_random_states(), **self._of_dataset()}

    def collate(self, examples: Any) -> WorkerBatch | None:
        """Make a batch; None in place of one that was used before."""
        before, self._before_passing_over = self._before_passing_over, None
        if before is not None:
            _set(before)  # without batches, an example had to be loaded
            return None
        batch = self._collate(examples)
        return WorkerBatch(batch, _worker().id, self._news())

    def _news(self) -> bytes:
        states = pickle.dumps((packed_random_states(), self._of_dataset()))
        if states == self._said and not self._says_all:
            return b""
        self._said = states
        return states

    def _of_dataset(self) -> dict[str, Any]:
        found = dataset_generator_states(_worker().dataset, self._generators_at_first)
        return {"dataset": found}


def _worker() -> Any:
    worker = get_worker_info()
    assert worker is not None, "it is for workers only"
    return worker


def _set(states: Mapping[str, Any]) -> None:
    set_processor_random_states(states)
    set_dataset_generator_states(_worker().dataset, states.get("dataset", {}))


class WorkerStates:
    """The random states of a loader's workers with the last batch of each that was handed over.

    Args:
        known: what they went on with, by their numbers; nothing of a worker that began anew.
    """

    def __init__(self, known: Mapping[int, dict[str, Any]] | None = None) -> None:
        """Begin with what is known."""
        self._known = dict(known or {})
        self._sent: dict[int, bytes] = {}

    def note(self, batch: WorkerBatch) -> None:
        """Take the states that came with a batch; they are unpacked when somebody asks."""
        if batch.states:
            self._sent[batch.worker] = batch.states

    def as_plain(self) -> dict[int, dict[str, Any]]:
        """Return the states by worker, as tensors and plain values."""
        return {**self._known, **{worker: _unpacked(sent) for worker, sent in self._sent.items()}}


def _unpacked(sent: bytes) -> dict[str, Any]:
    packed, of_dataset = pickle.loads(sent)  # from a process of our own
    return {**unpacked_random_states(packed), **of_dataset}


class HandedOver(Iterator[Any]):
    """The batches that workers sent, as the loader's own function has made them."""

    def __init__(self, sent: Iterator[Any], states: WorkerStates) -> None:
        """Put what comes with the batches into ``states``."""
        self._sent = sent
        self._states = states

    def pass_over(self, count: int) -> None:
        """Take what stands for used batches."""
        for _ in range(count):
            found = next(self._sent, None)
            assert found is None, "they come first"

    @override
    def __next__(self) -> Any:
        """Hand over the next batch."""
        found = next(self._sent)
        self._states.note(found)
        return found.batch

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        return len(self._sent)  # type: ignore[arg-type]  # torch's iterators have one
