"""Which batches of an evaluation are a process's own."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, Sampler
from typing_extensions import override

from brain_lightning.parts.data.iteration_start import samplers_of
from brain_lightning.parts.data.loader_options import loader_options
from brain_lightning.parts.data.saveable_loader import SaveableDataLoader

if TYPE_CHECKING:
    _Sampler = Sampler[Any]
else:
    _Sampler = Sampler

Gather = Callable[[Any], list[Any]]


class BatchShare(_Sampler):
    """A batch sampler with every n-th of another one's batches, and the first few of them all.

    Batches are never taken apart: each is what it is in one process. The other sampler runs whole
    on every process.

    Args:
        batches: a batch sampler, or the sampler of a loader that does not make batches.
        gather: returns an object of every process; called once in each iteration.
        rank, world_size: this process among all.
        shared_first: so many batches every process gets.
        padded: give every process as many batches, its last one again where it has fewer.
        limit: so many batches at most are looked at.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        gather: Gather,
        rank: int,
        world_size: int,
        shared_first: int,
        padded: bool = False,
        limit: int | None = None,
    ) -> None:
        """Take a share of ``batches``."""
        self._source = batches
        self._gather = gather
        self._rank = rank
        self._world_size = world_size
        self._shared_first = shared_first
        self._padded = padded
        self._limit = limit
        self.numbers: list[int] = []
        """For each batch of this process its number among all; of the iteration that began last."""
        self.own_count = 0
        """How many of them are its own; those after are padding."""
        self.splits = True
        """Whether it is a share; not where the processes have different data anyway."""
        self._batches: list[Any] = []

    @property
    def total(self) -> int:
        """How many batches there are for all processes together."""
        return len(self._batches)

    def batches_from(self, number: int) -> list[Any]:
        """Return all batches from number ``number`` on."""
        return self._batches[number:]

    @override
    def __iter__(self) -> Iterator[Any]:
        """Decide which batches are this process's, and yield them."""
        # When the first one is asked for: torch draws the seed of workers before.
        self._batches = self._agree(list(islice(self._source, self._limit)))
        self.numbers = self._own_numbers(len(self._batches))
        for number in self.numbers:
            yield self._batches[number]

    def _agree(self, batches: list[Any]) -> list[Any]:
        order = zlib.crc32(repr(batches).encode())
        content = sum(zlib.crc32(repr(index).encode()) for index in _indices(batches))
        seen = self._gather((order, content, len(batches)))
        self.splits = len({each[1:] for each in seen}) == 1
        if self.splits and len({each[0] for each in seen}) > 1:
            # Each shuffles as it likes; together they need one order.
            agreed: list[Any] = self._gather(batches if self._rank == 0 else None)[0]
            return agreed
        return batches

    def _own_numbers(self, total: int) -> list[int]:
        if not self.splits:
            self.own_count = total
            return list(range(total))
        first = min(self._shared_first, total)
        own = [*range(first), *range(first + self._rank, total, self._world_size)]
        self.own_count = len(own)
        if self._padded and own:
            most = first + -(-(total - first) // self._world_size)
            own += [own[-1]] * (most - len(own))
        return own

    def __len__(self) -> int:
        """Return the number of this process's batches, as far as the other sampler knows it."""
        total = len(self._source)  # type: ignore[arg-type]  # a TypeError where it has no length
        total = total if self._limit is None else min(total, self._limit)
        first = min(self._shared_first, total)
        return first + len(range(first + self._rank, total, self._world_size))


def _indices(batches: list[Any]) -> Iterator[Any]:
    for batch in batches:
        if isinstance(batch, (list, tuple)):
            yield from batch
        else:
            yield batch


def why_not_shared(loader: Any) -> str | None:
    """Return why a loader's batches cannot be shared out, or None where they can."""
    kind = type(loader).__name__
    if not isinstance(loader, DataLoader):
        return f"it is a {kind}, of which it is not known how to load every other batch only"
    if isinstance(loader.dataset, IterableDataset):
        return "an IterableDataset decides itself what it gives"
    if not _is_torchs_in_effect(type(loader)):
        return f"{kind} has an iteration of its own"
    if any(isinstance(sampler, DistributedSampler) for sampler in samplers_of(loader)):
        return "its sampler shares the data out already"
    return None


def _is_torchs_in_effect(kind: type[DataLoader[Any]]) -> bool:
    if kind.__iter__ is DataLoader.__iter__ or issubclass(kind, SaveableDataLoader):
        return True
    # SpeechBrain's is known by its name: it is imported in the entry layer only.
    return kind.__module__.split(".")[0] == "speechbrain" and kind.__name__ == "SaveableDataLoader"


def with_batches(
    loader: DataLoader[Any], make: Callable[[Iterable[Any]], Any]
) -> tuple[DataLoader[Any], Any]:
    """Return a loader that differs in its batches only, and what decides about them.

    Args:
        loader: one that can be shared out.
        make: makes the new batch sampler from the present one.
    """
    whole_batches = loader.batch_sampler is not None
    present: Any = loader.batch_sampler if whole_batches else loader.sampler
    batches = make(present)
    places = {"batch_sampler": batches} if whole_batches else {"sampler": batches}
    batch_size: dict[str, Any] = {} if whole_batches else {"batch_size": None}
    options = {**loader_options(loader), **places, **batch_size}
    return DataLoader(loader.dataset, **options), batches
