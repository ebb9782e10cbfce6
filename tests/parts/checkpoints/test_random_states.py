"""Random states saved and restored."""

import random

import numpy
import pytest
import torch

from brain_lightning.parts.checkpoints.random_states import random_states, set_random_states


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
    torch.save(random_states({"sampler": generator}), tmp_path / "states")
    expected = [draw(generator) for _ in range(3)]
    states = torch.load(tmp_path / "states", weights_only=True)  # tensors and plain values
    set_random_states(states, {"sampler": generator})
    assert [draw(generator) for _ in range(3)] == expected


def test_taking_the_states_draws_nothing():
    states = random_states()
    expected = draw()
    set_random_states(states)
    random_states()
    assert draw() == expected


def test_generators_and_devices_that_are_not_here_are_told(caplog):
    states = random_states({"gone": torch.Generator()})
    states["devices"] = {"cuda:999": torch.zeros(16, dtype=torch.uint8)}
    expected = draw()
    set_random_states(states)
    assert draw() == expected
    assert "no generator 'gone'" in caplog.text
    assert "no device cuda:999" in caplog.text
