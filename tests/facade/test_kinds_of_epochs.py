"""Whatever counts the epochs, `fit()` trains those that SpeechBrain's trains."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import speechbrain
import torch
from speechbrain.utils.epoch_loop import EpochCounter as TheirCounter

import brain_lightning
from brain_lightning.parts.epochs.epoch_counter import EpochCounter as OurCounter

Events = list[tuple[Any, ...]]


def brain_class(base: type[Any], events: Events) -> type[Any]:
    class Noting(base):  # type: ignore[misc]
        def compute_forward(self, batch: Any, stage: Any) -> Any:
            return self.modules.model(batch)

        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
            return predictions.square().mean()

        def on_stage_start(self, stage: Any, epoch: int | None = None) -> None:
            events.append(("start", stage.name, epoch))

        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: int | None = None) -> None:
            events.append(("end", stage.name, float(stage_loss), epoch))

    return Noting


class StopsEarly:
    def __next__(self) -> int:
        if self.current == 2:  # type: ignore[attr-defined]
            raise StopIteration
        return super().__next__()  # type: ignore[misc,no-any-return]


class GoesBeyondItsLimit:
    current: int

    def __next__(self) -> int:
        if self.current == 4:
            self.events.append(("closed",))  # type: ignore[attr-defined]
            raise StopIteration
        self.current += 1
        return self.current


class TakesTwo:
    def __next__(self) -> int:
        super().__next__()  # type: ignore[misc]
        return super().__next__()  # type: ignore[misc,no-any-return]


def closing(events: Events) -> Iterator[int]:
    for epoch in (3, 7, 5):
        events.append(("before", epoch))
        yield epoch
        events.append(("after", epoch))
    events.append(("closed",))


def counter(mixin: type[Any], base: type[Any], events: Events) -> Any:
    made = type(mixin.__name__, (mixin, base), {"events": events})(5)
    made.limit = 2 if mixin is GoesBeyondItsLimit else 5
    return made


KINDS: dict[str, Callable[[type[Any], Events], Iterable[int]]] = {
    "stops early": functools.partial(counter, StopsEarly),
    "goes beyond its limit": functools.partial(counter, GoesBeyondItsLimit),
    "takes two": functools.partial(counter, TakesTwo),
    "a generator": lambda base, events: closing(events),
    "the first number again": lambda base, events: [1, 1],
    "zero again and again": lambda base, events: itertools.repeat(0, 3),
    "backwards": lambda base, events: reversed(range(3)),
    "down to the first and below": lambda base, events: (2, 2, 1, 0),
    "keys": lambda base, events: {5: 1, 6: 2},
    "none": lambda base, events: [],
}


def events_of(base: type[Any], counter_base: type[Any], kind: str) -> Events:
    events: Events = []
    torch.manual_seed(3)
    brain = brain_class(base, events)(
        {"model": torch.nn.Linear(2, 1)},
        functools.partial(torch.optim.SGD, lr=0.1),
        run_opts={"noprogressbar": True, "device": "cpu"},
    )
    epochs = KINDS[kind](counter_base, events)
    data = [torch.ones(2), torch.zeros(2), torch.tensor([1.0, 2.0])]
    brain.fit(epochs, data, data[:1])
    brain.fit(epochs, data, data[:1])
    return [*events, ("left", brain.optimizer_step, getattr(epochs, "current", None))]


NUMBERS: dict[str, Callable[[], Iterable[Any]]] = {
    "tensors": lambda: torch.arange(1, 3),
    "tensors of one": lambda: torch.arange(1, 3).unsqueeze(1),
    "numpy's": lambda: np.arange(1, 3),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_of_other_kinds_reach_the_hooks_as_integers(kind: str) -> None:
    kinds = {}
    for base in (brain_lightning.Brain, speechbrain.Brain):
        events: Events = []
        brain = brain_class(base, events)(
            {"model": torch.nn.Linear(2, 1)},
            functools.partial(torch.optim.SGD, lr=0.1),
            run_opts={"noprogressbar": True, "device": "cpu"},
        )
        brain.fit(NUMBERS[kind](), [torch.ones(2)])
        assert [int(event[-1]) for event in events] == [1, 1, 2, 2]
        kinds[base] = {type(event[-1]) for event in events}

    assert kinds[brain_lightning.Brain] == {int}
    assert int not in kinds[speechbrain.Brain]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_epochs_are_trained(kind: str) -> None:
    ours = events_of(brain_lightning.Brain, OurCounter, kind)

    assert ours == events_of(speechbrain.Brain, TheirCounter, kind)
