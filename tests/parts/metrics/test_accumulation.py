"""Several holders of state, standing for processes, get what one has that sees all batches."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torchmetrics import CatMetric, MeanMetric, SumMetric

from brain_lightning.parts.metrics.accumulation import Accumulation, GatheringError
from brain_lightning.parts.metrics.gatherable import register_gatherable
from brain_lightning.parts.metrics.state_tree import StateTree

Update = Callable[[Any, int], None]
LOOKS = 2


class Holder(SimpleNamespace):
    """Stands for a Brain."""


class Tally:
    """Has registered attributes."""

    def __init__(self) -> None:
        self.seen, self.ratio, self.latest, self.scratch = 5, 0.5, "", 0


register_gatherable(Tally, sums=["seen", "ratio"], last="latest", ignored="scratch")


def shared(state: dict[str, Any], update: Update, batches: int, world_size: int) -> list[Holder]:
    """Share ``batches`` out to holders of copies of ``state``; return them behind the join."""
    holders = [Holder(**copy.deepcopy(state)) for _ in range(world_size)]
    accumulations = [Accumulation(StateTree({"self": each}, frozenset())) for each in holders]
    for rank, (holder, accumulation) in enumerate(zip(holders, accumulations, strict=True)):
        accumulation.start()
        for number in range(min(LOOKS, batches)):
            update(holder, number)
            problems = accumulation.look()
            assert not problems, problems
        accumulation.share(starts_empty=rank != 0)
        for number in range(LOOKS + rank, batches, world_size):
            accumulation.before_batch(is_padding=False)
            update(holder, number)
            accumulation.after_batch(number, is_padding=False)
    shares = [each.own_share() for each in accumulations]
    states = [_tensor_states(each) for each in holders]
    for rank, accumulation in enumerate(accumulations):
        sent = pickle.loads(pickle.dumps(shares))
        order = zip(*states, strict=True)
        accumulation.join(sent, rank, partial(_next, order))
    return holders


def _next(order: Iterator[tuple[torch.Tensor, ...]], own: torch.Tensor) -> list[torch.Tensor]:
    return list(next(order))


def _tensor_states(holder: Holder) -> list[torch.Tensor]:
    """What the processes would send, in the order in which they are asked for it."""
    found = []
    for value in vars(holder).values():
        if isinstance(value, (MeanMetric, SumMetric)):
            found += [torch.as_tensor(each).clone() for each in value.metric_state.values()]
    return found


def one(state: dict[str, Any], update: Update, batches: int) -> Holder:
    holder = Holder(**copy.deepcopy(state))
    for number in range(batches):
        update(holder, number)
    return holder


def append(holder: Any, number: int) -> None:
    holder.items += [(number, index) for index in range(number % 3)]
    holder.tensors.append(torch.tensor(float(number)))


def rebind(holder: Any, number: int) -> None:
    holder.items = [*holder.items, number]


def insert(holder: Any, number: int) -> None:
    holder.found[f"batch {number}"] = {"score": number}
    holder.inner.lists["all"].append(number)


def make_on_first_use(holder: Any, number: int) -> None:
    if holder.targets is None:
        holder.targets = [[number], [-number]]
    else:
        for known, item in zip(holder.targets, (number, -number), strict=True):
            known.append(item)


def tally(holder: Any, number: int) -> None:
    holder.tally.seen += number
    holder.tally.ratio += 0.1 * number
    holder.tally.latest = f"batch {number}"
    holder.tally.scratch = number


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batches", [2, 3, 4, 9])
@pytest.mark.parametrize(
    ("state", "update"),
    [
        ({"items": ["there before"], "tensors": []}, append),
        ({"items": []}, rebind),
        ({"found": {"first": 0}, "inner": SimpleNamespace(lists={"all": []})}, insert),
        ({"targets": None}, make_on_first_use),
    ],
)
def test_what_grows(state: dict[str, Any], update: Update, batches: int, world_size: int) -> None:
    expected = one(state, update, batches)
    for holder in shared(state, update, batches, world_size):
        assert vars(holder) == vars(expected)
        for name, value in vars(holder).items():
            if isinstance(value, dict):
                assert list(value) == list(getattr(expected, name))


@pytest.mark.parametrize("world_size", [2, 3])
def test_registered_attributes(world_size: int) -> None:
    expected = one({"tally": Tally()}, tally, 9).tally
    for holder in shared({"tally": Tally()}, tally, 9, world_size):
        found = holder.tally
        assert (found.seen, found.latest) == (expected.seen, expected.latest)
        assert found.ratio == pytest.approx(expected.ratio)


def test_torchmetrics() -> None:
    def update(holder: Any, number: int) -> None:
        holder.mean.update(torch.tensor(float(number)), weight=number)
        holder.total.update(number)
        holder.all.update(torch.arange(number).float())
        holder.total.compute()  # a result that is kept must not outlive the join

    state = {"mean": MeanMetric(), "total": SumMetric(), "all": CatMetric()}
    expected = one(state, update, 7)
    for holder in shared(state, update, 7, 2):
        for name in state:
            theirs = getattr(expected, name).compute()
            torch.testing.assert_close(getattr(holder, name).compute(), theirs)


def looked(state: dict[str, Any], update: Update, batches: int = 2) -> list[str]:
    holder = Holder(**state)
    accumulation = Accumulation(StateTree({"self": holder}, frozenset()))
    accumulation.start()
    problems = []
    for number in range(batches):
        update(holder, number)
        problems += accumulation.look()
    return problems


def test_what_cannot_be_gathered_is_named(tmp_path: Any) -> None:
    def count(holder: Any, number: int) -> None:
        holder.count += 1

    def in_place(holder: Any, number: int) -> None:
        holder.total += 1

    def counts(holder: Any, number: int) -> None:
        holder.counts["all"] += 1

    def in_list(holder: Any, number: int) -> None:
        holder.numbers[0] += 1

    def transient(holder: Any, number: int) -> None:
        holder.features = torch.ones(1)

    def replaced_list(holder: Any, number: int) -> None:
        holder.ids = [number]

    def unpacked_tuple(holder: Any, number: int) -> None:
        holder.pair = (holder.pair[0] + 1, 0)

    def write(holder: Any, number: int) -> None:
        holder.file.write("line\n")

    with (tmp_path / "report").open("w") as file:
        for state, update, name in (
            ({"count": 0}, count, "self.count"),
            ({"total": torch.zeros(2)}, in_place, "self.total"),
            ({"counts": {"all": 0}}, counts, "self.counts"),
            ({"numbers": [0]}, in_list, "self.numbers"),
            ({}, transient, "self.features"),
            ({"ids": None}, replaced_list, "self.ids"),
            ({"pair": (0, 0)}, unpacked_tuple, "self.pair"),
            ({"file": file}, write, "self.file"),
            ({"inner": SimpleNamespace(count=0)}, lambda h, n: count(h.inner, n), ".inner.count"),
        ):
            assert name in " ".join(looked(state, update)), name


def test_what_does_not_change_is_no_problem() -> None:
    state = {
        "number": float("nan"),
        "tensor": torch.tensor([1.0, float("nan")]),
        "pair": (1, torch.ones(1)),
        "names": {"a": 1},
        "module": torch.nn.Dropout(),
    }
    assert looked(state, lambda holder, number: None) == []


def test_a_key_of_two_processes_is_an_error() -> None:
    def update(holder: Any, number: int) -> None:
        holder.found["odd" if number in (3, 4) else number] = number

    with pytest.raises(GatheringError, match=r"self\.found\['odd'\] \(set by several batches\)"):
        shared({"found": {}}, update, 6, 2)


def test_a_later_change_is_an_error() -> None:
    def update(holder: Any, number: int) -> None:
        if number > 3:
            holder.count += 1

    with pytest.raises(GatheringError, match=r"self\.count"):
        shared({"count": 0}, update, 6, 2)


def test_padding_leaves_no_trace() -> None:
    state = {"items": [], "total": SumMetric(), "tally": Tally()}

    def update(holder: Any, number: int) -> None:
        holder.items.append(number)
        holder.total.update(number)
        tally(holder, number)

    holder = Holder(**state)
    accumulation = Accumulation(StateTree({"self": holder}, frozenset()))
    accumulation.start()
    update(holder, 1)
    assert not accumulation.look()
    accumulation.share(starts_empty=False)
    for is_padding in (False, True):
        accumulation.before_batch(is_padding)
        update(holder, 2)
        accumulation.after_batch(2, is_padding)
    share = accumulation.own_share()
    accumulation.join([share], 0, lambda tensor: [tensor])
    assert holder.items == [1, 2]
    assert float(holder.total.compute()) == 3
    assert holder.tally.seen == 8


def test_registration_is_checked() -> None:
    with pytest.raises(TypeError, match="takes a class"):
        register_gatherable(Tally(), sums="seen")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="says nothing"):
        register_gatherable(Tally)
    with pytest.raises(TypeError, match="names of attributes"):
        register_gatherable(Tally, sums=[3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="two ways"):
        register_gatherable(Tally, last=["seen"])
