"""Epoch counters, beside SpeechBrain's."""

import logging

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from speechbrain.utils import epoch_loop as theirs
from speechbrain.utils.checkpoints import Checkpointer as TheirCheckpointer

from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.epochs.epoch_counter import EpochCounter, EpochCounterWithStopper

STATE = ("current", "limit", "best_limit", "best_score", "should_stop")


def state_of(counter):
    return {name: getattr(counter, name) for name in STATE if hasattr(counter, name)}


def test_counts_from_one_and_goes_on_where_it_is():
    counter = EpochCounter("3")
    assert next(counter) == 1
    assert list(counter) == [2, 3]
    assert list(counter) == []
    assert list(theirs.EpochCounter("3")) == [1, 2, 3]


@given(limit=st.integers(-2, 6) | st.floats(0, 6), taken=st.integers(0, 7))
def test_counting_equals_speechbrain(limit, taken):
    ours, expected = EpochCounter(limit), theirs.EpochCounter(limit)
    for _ in range(taken):
        assert next(ours, "end") == next(expected, "end")
    assert state_of(ours) == state_of(expected)


def test_says_which_epoch_comes(caplog):
    with caplog.at_level(logging.INFO):
        list(EpochCounter(2))
    assert caplog.messages == ["Going into epoch 1", "Going into epoch 2"]
    assert {record.levelname for record in caplog.records} == {"INFO"}


PAIRS = [
    (lambda: EpochCounter(5), lambda: theirs.EpochCounter(5)),
    (
        lambda: EpochCounterWithStopper(5, 2, 0, "max"),
        lambda: theirs.EpochCounterWithStopper(5, 2, 0, "max"),
    ),
]


@pytest.mark.parametrize("checkpointer", [Checkpointer, TheirCheckpointer])
@pytest.mark.parametrize("end_of_epoch", [True, False])
@pytest.mark.parametrize("pair", PAIRS, ids=["counter", "stopper"])
def test_checkpoints_go_both_ways(tmp_path, checkpointer, end_of_epoch, pair):
    files = []
    for number, (writer, reader) in enumerate([(0, 1), (1, 0), (0, 0)]):
        saved, loaded = pair[writer](), pair[reader]()
        for metric in (0.5, 0.7):
            next(saved)
            if hasattr(saved, "update_metric"):
                saved.update_metric(metric)
        folder = tmp_path / str(number)
        saving = checkpointer(folder, {"counter": saved})
        files += [saving.save_checkpoint(end_of_epoch=end_of_epoch).paramfiles["counter"]]
        checkpointer(folder, {"counter": loaded}).recover_if_possible()
        assert loaded.current == (2 if end_of_epoch else 1)
        if writer == reader == 0:
            assert state_of(loaded) == state_of(saved) | {"current": loaded.current}
    assert {file.read_text() for file in files} == {"2"}


def test_a_stopped_stopper_stays_stopped(tmp_path):
    # SpeechBrain's forgets: its Checkpointer saves the epoch alone.
    for module, stays in ((EpochCounterWithStopper, True), (theirs.EpochCounterWithStopper, False)):
        counter = module(9, 1, 0, "min")
        for _ in counter:
            counter.update_metric(1.0)
        folder = tmp_path / str(stays)
        Checkpointer(folder, {"counter": counter}).save_checkpoint()
        again = module(9, 1, 0, "min")
        Checkpointer(folder, {"counter": again}).recover_if_possible()
        assert again.current == 2
        assert again.should_stop is stays


@pytest.mark.parametrize("module", [EpochCounterWithStopper, theirs.EpochCounterWithStopper])
def test_a_stopper_that_has_judged_keeps_what_it_knows_when_it_loads(tmp_path, module):
    # evaluate() loads the best checkpoint, and recipes save before they call update_metric().
    counter = module(9, 1, 0, "min")
    checkpointer_of_counter = Checkpointer(tmp_path, {"counter": counter})
    for _ in counter:
        checkpointer_of_counter.save_checkpoint()
        counter.update_metric(1.0)
    checkpointer_of_counter.recover_if_possible()
    assert counter.current == 2
    assert counter.should_stop
    assert (counter.best_limit, counter.best_score) == (1, 1.0)


def test_the_mapping_that_speechbrains_stopper_writes_itself_is_read(tmp_path):
    saved = theirs.EpochCounterWithStopper(5, 2, 0, "max")
    next(saved)
    saved.update_metric(0.5)
    saved._save(tmp_path / "counter")
    loaded = EpochCounterWithStopper(5, 2, 0, "max")
    loaded._recover(tmp_path / "counter", True)
    assert state_of(loaded) == state_of(saved)


def test_a_state_left_from_another_epoch_is_not_taken(tmp_path):
    ours = EpochCounterWithStopper(5, 2, 0, "max")
    next(ours)
    ours.update_metric(0.5)
    ours._save(tmp_path / "counter")
    (tmp_path / "counter").write_text("3")
    loaded = EpochCounterWithStopper(5, 2, 0, "max")
    loaded._recover(tmp_path / "counter", True)
    assert loaded.current == 3
    assert loaded.best_score == -float("inf")


@given(
    direction=st.sampled_from(["min", "max"]),
    patience=st.integers(0, 3),
    warmup=st.integers(0, 3),
    metrics=st.lists(
        st.sampled_from([0.0, 1.0, 1.0 - 5e-7, 1.0 - 2e-6, -1.0, 3.0, float("inf"), float("nan")]),
        max_size=12,
    ),
)
def test_stopping_equals_speechbrain(direction, patience, warmup, metrics):
    arguments = (10, patience, warmup, direction)
    ours = EpochCounterWithStopper(*arguments)
    expected = theirs.EpochCounterWithStopper(*arguments)
    for metric in metrics:
        assert next(ours, "end") == next(expected, "end")
        ours.update_metric(metric)
        expected.update_metric(metric)
        assert state_of(ours) == state_of(expected)


def test_stopping_is_said(caplog):
    counter = EpochCounterWithStopper(9, 1, 0, "min")
    with caplog.at_level(logging.INFO):
        for _ in counter:
            counter.update_metric(1.0)
    assert caplog.messages[-1] == (
        "1 epochs without improvement.\nPatience of 1 is exhausted, stopping."
    )
    assert counter.current == 2


@pytest.mark.parametrize("metric", [np.float64(0.25), np.float32(0.25), torch.tensor(0.25)])
def test_a_metric_of_any_number_type_can_be_loaded_again(tmp_path, metric):
    broken = theirs.EpochCounterWithStopper(5, 2, 0, "min")
    ours = EpochCounterWithStopper(5, 2, 0, "min")
    for counter in (broken, ours):
        next(counter)
        counter.update_metric(metric)
        counter._save(tmp_path / type(counter).__module__)
    with pytest.raises(yaml.YAMLError):
        broken._recover(tmp_path / type(broken).__module__)
    loaded = EpochCounterWithStopper(5, 2, 0, "min")
    loaded._recover(tmp_path / type(ours).__module__)
    assert loaded.best_score == 0.25


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: EpochCounter("many"), "limit of an epoch counter is 'many'"),
        (lambda: EpochCounter(None), "limit of an epoch counter is None"),
        (lambda: EpochCounter(float("inf")), "limit of an epoch counter is inf"),
        (lambda: EpochCounterWithStopper(5, -1, 0, "min"), "limit_to_stop .* is -1"),
        (lambda: EpochCounterWithStopper(5, 1, -1, "min"), "limit_warmup .* is -1"),
        (lambda: EpochCounterWithStopper(5, "2", 0, "min"), "limit_to_stop .* is '2'"),
        (lambda: EpochCounterWithStopper(5, 1, 0, "up"), "'up', but must be 'min'.* or 'max'"),
    ],
)
def test_wrong_arguments(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize("content", ["", "two", "[1, 2]", "current_epoch: 1", "{", "1.5"])
def test_a_file_of_something_else_is_named(tmp_path, content):
    path = tmp_path / "counter.ckpt"
    path.write_text(content)
    for counter in (EpochCounter(5), EpochCounterWithStopper(5, 1, 0, "min")):
        before = state_of(counter)
        with pytest.raises(ValueError, match=r"counter\.ckpt"):
            counter._recover(path, True)
        assert state_of(counter) == before


def test_an_old_device_argument_is_taken(tmp_path):
    counter = EpochCounterWithStopper(5, 1, 0, "min")
    next(counter)
    counter._save(tmp_path / "counter")
    counter._recover(tmp_path / "counter", True, device="cpu")
    assert counter.current == 1
