"""EpochSource: asking for an epoch does not go into it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from speechbrain.utils import epoch_loop as theirs

from brain_lightning.parts.epochs.epoch_counter import EpochCounter, EpochCounterWithStopper
from brain_lightning.parts.epochs.epoch_source import EpochSource

COUNTERS = [EpochCounter, theirs.EpochCounter]
STOPPERS = [EpochCounterWithStopper, theirs.EpochCounterWithStopper]


def drain(source):
    taken = []
    while source.has_next():
        taken.append(source.take())
    return taken


@pytest.mark.parametrize("counter_class", COUNTERS)
def test_asking_a_counter_leaves_the_finished_epoch_in_it(counter_class):
    counter = counter_class(2)
    source = EpochSource(counter)
    for epoch in (1, 2):
        assert source.has_next()
        assert counter.current == epoch - 1
        assert source.take() == epoch
        assert counter.current == epoch
    assert not source.has_next()
    with pytest.raises(StopIteration):
        source.take()


@pytest.mark.parametrize("counter_class", STOPPERS)
def test_a_stopper_that_stops_has_no_next_epoch(counter_class):
    counter = counter_class(9, 1, 0, "min")
    source = EpochSource(counter)
    while source.has_next():
        source.take()
        counter.update_metric(1.0)
    assert counter.current == 2
    assert counter.should_stop


@pytest.mark.parametrize("counter_class", COUNTERS)
def test_a_recovered_counter_is_asked_anew(counter_class):
    counter = counter_class(3)
    source = EpochSource(counter)
    counter.current = 2
    assert drain(source) == [3]
    counter.limit = 4
    assert drain(source) == [4]


@pytest.mark.parametrize("counter_class", COUNTERS)
def test_a_counter_at_its_end_is_iterated_once_more(counter_class):
    asked = []

    class Counter(counter_class):
        def __next__(self):
            asked.append(self.current)
            return super().__next__()

    source = EpochSource(Counter(2))
    assert drain(source) == [1, 2]
    assert not source.has_next()
    assert asked == [0, 1, 2]


@given(epochs=st.lists(st.integers(0, 99), max_size=6), asked=st.lists(st.integers(0, 3)))
def test_any_iterable_gives_each_epoch_once(epochs, asked):
    for iterable in (epochs, iter(epochs), (epoch for epoch in epochs), np.array(epochs, int)):
        source = EpochSource(iterable)
        taken = []
        for times in [*asked, *[1] * len(epochs)]:
            for _ in range(times):
                assert source.has_next() == (len(taken) < len(epochs))
            if len(taken) < len(epochs):
                taken.append(source.take())
        assert taken == epochs
        assert {type(epoch) for epoch in taken} <= {int}


def test_a_range():
    assert drain(EpochSource(range(1, 4))) == [1, 2, 3]


def test_nothing_is_taken_before_somebody_asks():
    taken = []

    def epochs():
        for epoch in (1, 2):
            taken.append(epoch)
            yield epoch

    source = EpochSource(epochs())
    assert taken == []
    assert source.take() == 1
    assert taken == [1]
    assert source.has_next()
    assert taken == [1, 2]


@pytest.mark.parametrize("wrong", [5, None, object()])
def test_what_cannot_be_iterated_over_is_refused(wrong):
    with pytest.raises(TypeError, match=r"cannot be iterated over: give an EpochCounter, a range"):
        EpochSource(wrong)


def test_an_epoch_that_is_no_integer_is_refused():
    source = EpochSource(["first"])
    with pytest.raises(TypeError, match="must be integers, but 'first' came"):
        source.take()
