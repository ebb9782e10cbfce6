"""Random states saved and restored."""

import random

import numpy
import pytest
import torch
from speechbrain.utils import checkpoints as speechbrain

from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.random_states import (
    RandomStates,
    random_states,
    set_random_states,
)


@pytest.fixture(autouse=True)
def keep_the_states_of_other_tests():
    states = random_states()
    yield
    set_random_states(states)


def draw(generator=None):
    return (
        random.random(),
        random.gauss(0, 1),
        numpy.random.standard_normal(3).tolist(),
        torch.rand(3).tolist(),
        torch.randn(3).tolist(),
        None if generator is None else torch.rand(2, generator=generator).tolist(),
    )


def test_what_is_drawn_after_loading_is_what_was_drawn_after_saving(tmp_path):
    generator = torch.Generator().manual_seed(3)
    draw(generator)  # leaves half a pair of normal numbers in Python's and numpy's generators
    states = RandomStates({"sampler": generator})
    checkpointer = Checkpointer(tmp_path, {"random": states})
    checkpointer.save_checkpoint()
    expected = [draw(generator) for _ in range(3)]
    checkpointer.recover_if_possible()
    assert [draw(generator) for _ in range(3)] == expected


def test_saving_draws_nothing(tmp_path):
    states = random_states()
    expected = draw()
    set_random_states(states)
    Checkpointer(tmp_path, {"random": RandomStates()}).save_checkpoint()
    assert draw() == expected


def test_the_file_holds_tensors_and_plain_values(tmp_path):
    checkpoint = Checkpointer(tmp_path, {"random": RandomStates()}).save_checkpoint()
    loaded = torch.load(checkpoint.paramfiles["random"], weights_only=True)
    assert list(loaded["ranks"]) == [0]


def test_speechbrain_ignores_the_file(tmp_path):
    module = torch.nn.Linear(1, 1)
    Checkpointer(tmp_path, {"random": RandomStates(), "module": module}).save_checkpoint()
    before = random_states()["torch"]
    assert speechbrain.Checkpointer(tmp_path, {"module": module}).recover_if_possible()
    assert random_states()["torch"].equal(before)


def test_generators_and_devices_that_are_not_here_are_told(tmp_path, caplog):
    states = random_states({"gone": torch.Generator()})
    states["devices"] = {"cuda:999": torch.zeros(16, dtype=torch.uint8)}
    expected = draw()
    set_random_states(states)
    assert draw() == expected
    assert "no generator 'gone'" in caplog.text
    assert "no device cuda:999" in caplog.text


def test_another_process_than_was_saved_goes_on_with_numbers_of_its_own(
    tmp_path, monkeypatch, caplog
):
    checkpointer = Checkpointer(tmp_path, {"random": RandomStates()})
    checkpoint = checkpointer.save_checkpoint()
    drawn = []
    for rank in (0, 1, 2, 1):
        monkeypatch.setattr(
            "brain_lightning.parts.checkpoints.random_states._own_rank", lambda rank=rank: rank
        )
        checkpointer.load_checkpoint(checkpoint)
        drawn.append((torch.rand(3).tolist(), random.random()))
    assert drawn[1] == drawn[3]
    assert len({str(numbers) for numbers in drawn}) == 3
    assert "no random states of process 2" in caplog.text
