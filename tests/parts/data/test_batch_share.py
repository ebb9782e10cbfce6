"""Shares of batches: disjoint, whole, and each batch as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset

from brain_lightning.parts.data.batch_share import BatchShare, why_not_shared, with_batches
from brain_lightning.parts.data.looped_loader import LoopedLoader
from brain_lightning.parts.data.make_dataloader import make_dataloader


def share(batches: Any, rank: int, world_size: int, **more: Any) -> BatchShare:
    same: Any = lambda value: [value] * world_size  # noqa: E731
    return BatchShare(batches, same, rank, world_size, shared_first=2, **more)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 12])
def test_each_batch_belongs_to_one(count: int, world_size: int) -> None:
    batches = [[number, -number] for number in range(count)]
    seen = []
    for rank in range(world_size):
        own = share(batches, rank, world_size)
        expected_length = len(own)
        given = list(own)
        assert len(given) == len(own.numbers) == own.own_count == expected_length
        assert given[:2] == batches[:2]
        assert given == [batches[number] for number in own.numbers]
        seen += own.numbers[2:]
    assert sorted(seen) == list(range(2, count))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_padding(count: int) -> None:
    batches = [[number] for number in range(count)]
    shares = [share(batches, rank, 3, padded=True) for rank in range(3)]
    assert len({len(list(each)) for each in shares}) == 1
    for each in shares:
        assert all(
            number == each.numbers[each.own_count - 1] for number in each.numbers[each.own_count :]
        )


def test_limit() -> None:
    own = share([[number] for number in range(9)], 1, 2, limit=5)
    assert list(own) == [[0], [1], [3]]
    assert own.total == 5


def test_orders_that_differ_become_the_main_process_s() -> None:
    mine, main = [[0], [1], [2], [3]], [[3], [2], [1], [0]]

    def gather(value: Any) -> list[Any]:
        if isinstance(value, tuple):
            other = BatchShare(main, lambda v: sent.append(v) or [v], 0, 2, 2)  # type: ignore[func-returns-value]
            sent: list[Any] = []
            list(other)
            return [sent[0], value]
        assert value is None
        return [main, None]

    own = BatchShare(mine, gather, 1, 2, shared_first=2)
    assert list(own) == [[3], [2], [0]]


def test_different_data_is_not_split() -> None:
    own = BatchShare([[0], [1], [2]], lambda value: [value, (0, 0, 3)], 1, 2, shared_first=2)
    assert list(own) == [[0], [1], [2]]
    assert not own.splits
    assert own.own_count == 3


def test_the_loader_keeps_its_ways() -> None:
    def collate(items: list[Any]) -> Any:
        return items

    loader: Any = make_dataloader(range(7), batch_size=2, collate_fn=collate)
    shared, batches = with_batches(loader, lambda batches: share(batches, 1, 2))
    assert list(shared) == [[0, 1], [2, 3], [6]]
    assert batches.numbers == [0, 1, 3]
    items: Any = DataLoader(range(5), batch_size=None)  # type: ignore[arg-type]
    shared, _ = with_batches(items, lambda batches: share(batches, 1, 2))
    assert [int(item) for item in shared] == [0, 1, 3]


class Stream(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(3))


class Own(DataLoader[Any]):
    def __iter__(self) -> Any:
        return super().__iter__()


def test_which_loaders_can_be_shared() -> None:
    data = torch.arange(6)
    assert why_not_shared(DataLoader(data)) is None  # type: ignore[arg-type]
    assert why_not_shared(make_dataloader(data)) is None
    distributed: Any = DistributedSampler(data, 2, 0)  # type: ignore[arg-type]
    within = BatchSampler(distributed, 2, drop_last=False)
    for loader, reason in (
        ([1, 2], "it is a list"),
        (LoopedLoader(DataLoader(data), 2), "LoopedLoader"),  # type: ignore[arg-type]
        (DataLoader(Stream()), "IterableDataset"),
        (Own(data), "iteration of its own"),  # type: ignore[arg-type]
        (DataLoader(data, batch_sampler=within), "shares the data out already"),  # type: ignore[arg-type]
    ):
        assert reason in str(why_not_shared(loader))


def test_speechbrains_loader_can_be_shared() -> None:
    from speechbrain.dataio.dataloader import SaveableDataLoader

    assert why_not_shared(SaveableDataLoader(torch.arange(6))) is None
