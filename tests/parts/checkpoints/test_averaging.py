"""Averages of parameters, beside SpeechBrain's."""

import pytest
import torch
from speechbrain.utils import checkpoints as speechbrain

from brain_lightning.parts.checkpoints.averaging import average_checkpoints, average_state_dicts
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.errors import CheckpointError
from tests.parts.checkpoints.experiment import Experiment, flattened


@pytest.fixture
def checkpoints(tmp_path):
    experiment = Experiment()
    checkpointer = Checkpointer(tmp_path, experiment.recoverables)
    for _ in range(3):
        experiment.step()
        checkpointer.save_checkpoint()
    return checkpointer.find_checkpoints()


def test_checkpoints_are_averaged_to_the_same_bits(checkpoints):
    expected = speechbrain.average_checkpoints(checkpoints, "model")
    averaged = average_checkpoints(checkpoints, "model")
    assert flattened(averaged) == flattened(expected)
    assert [*averaged] == [*expected]
    assert type(averaged) is type(expected)
    assert averaged._metadata == expected._metadata
    model = Experiment(seed=3).model
    model.load_state_dict(averaged)
    mean = sum(torch.load(c.paramfiles["model"])["0.weight"] for c in checkpoints) / 3
    torch.testing.assert_close(model[0].weight.data, mean)


def test_loader_and_averager_can_be_given(checkpoints):
    calls = []

    def load(path, map_location):
        calls.append((path.name, map_location))
        return {"value": len(calls)}

    def collect(loaded):
        return [item["value"] for item in loaded]

    for average in (speechbrain.average_checkpoints, average_checkpoints):
        calls.clear()
        assert average(checkpoints, "model", load, collect) == [1, 2, 3]
        assert calls == [("model.ckpt", "cpu")] * 3


@pytest.mark.parametrize("number", [1, 2, 5])
def test_state_dicts_are_averaged_to_the_same_bits_and_stay_as_they_are(number):
    def make():
        torch.manual_seed(0)
        return [{"w": torch.randn(4), "count": torch.tensor(index)} for index in range(number)]

    given = make()
    averaged = average_state_dicts(given)
    assert flattened(averaged) == flattened(speechbrain.average_state_dicts(make()))
    assert flattened(given) == flattened(make())


def test_an_iterator_is_read_one_by_one():
    alive = []

    def states():
        for index in range(3):
            alive.append(index)
            yield {"w": torch.tensor([float(index)])}

    assert average_state_dicts(states())["w"].tolist() == [1.0]
    assert average_state_dicts(iter([{}, {}])) == {}


def test_nothing_to_average_is_an_error():
    for library in (speechbrain.average_checkpoints, average_checkpoints):
        with pytest.raises(ValueError, match="No state dicts to average"):
            library([], "model")


def test_different_keys_are_an_error():
    states = [{"a": torch.zeros(1), "b": torch.zeros(1)}, {"a": torch.zeros(1)}]
    with pytest.raises(ValueError, match=r"State dict 1 .* only one of them has 'b'"):
        average_state_dicts(states)


def test_a_checkpoint_without_the_recoverable_is_named(checkpoints):
    with pytest.raises(CheckpointError, match=r"'lm'; it has \['model', 'optimizer', 'scheduler'"):
        average_checkpoints(checkpoints, "lm")


@pytest.mark.parametrize("library", [average_checkpoints, speechbrain.average_checkpoints])
def test_a_checkpoint_without_the_recoverable_is_a_key_error_as_in_speechbrain(
    checkpoints, library
):
    with pytest.raises(KeyError, match="lm"):
        library(checkpoints, "lm")
