"""StreamShare: one process's part of an IterableDataset that can be divided."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from torch.utils.data import IterableDataset, get_worker_info
from typing_extensions import override

if TYPE_CHECKING:
    _IterableDataset = IterableDataset[Any]
else:
    _IterableDataset = IterableDataset


class Divisible(Protocol):
    """A data set that can be divided without loading what belongs to others."""

    def shard(self, num_shards: int, index: int) -> Any:
        """Return part ``index`` of ``num_shards``; together the parts are the whole."""
        ...


class StreamShare(_IterableDataset):
    """The part of a data set that belongs to one process, divided further among its workers.

    Args:
        dataset: an IterableDataset with ``shard(num_shards, index)``.
        rank, world_size: this process among all.

    Attributes that are not its own are those of the part, or of the data set in a loader's workers.
    """

    def __init__(self, dataset: Divisible, rank: int, world_size: int) -> None:
        """Take the part of process ``rank``."""
        self.dataset = dataset
        self.rank = rank
        self.world_size = world_size
        self.part: Any = dataset.shard(num_shards=world_size, index=rank)

    @override
    def __iter__(self) -> Iterator[Any]:
        """Yield what belongs to this process, or to this worker of it."""
        worker = get_worker_info()
        if worker is None or worker.num_workers == 1:
            return iter(self.part)
        part = self.dataset.shard(
            num_shards=self.world_size * worker.num_workers,
            index=self.rank * worker.num_workers + worker.id,
        )
        return iter(part)

    def __len__(self) -> int:
        """Return the length of this process's part, where it has one."""
        return len(self.part)

    def __getattr__(self, name: str) -> Any:
        """Anything else is the part's."""
        if name.startswith("__") or "part" not in vars(self):
            raise AttributeError(name)
        return getattr(self.part, name)


def is_divisible(dataset: Any) -> bool:
    """Whether an IterableDataset says how it is divided.

    Those of Hugging Face's datasets have the method too, but divide themselves among workers.
    """
    if not isinstance(dataset, IterableDataset) or isinstance(dataset, StreamShare):
        return False
    method = getattr(dataset, "shard", None)
    if not callable(method) or type(dataset).__module__.split(".")[0] == "datasets":
        return False
    try:
        names = set(inspect.signature(method).parameters)
    except (TypeError, ValueError):
        return False
    return {"num_shards", "index"} <= names
