"""LoopedLoader, beside SpeechBrain's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from speechbrain.dataio.dataloader import LoopedLoader as TheirLooped
from speechbrain.utils.checkpoints import Checkpointer as TheirCheckpointer
from torch.utils.data import DataLoader

from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.data.looped_loader import LoopedLoader
from brain_lightning.parts.data.samplers import ReproducibleRandomSampler
from brain_lightning.parts.data.saveable_loader import SaveableDataLoader
from tests.parts.data.loader_scenarios import Recording, as_lists


def counts(loader):
    return loader.step, loader.total_steps, loader.total_samples


def take(iterator, count):
    return as_lists([next(iterator) for _ in range(count)])


@given(
    length=st.integers(1, 9),
    batch_size=st.integers(1, 4),
    epoch_length=st.integers(1, 7),
    epochs=st.integers(1, 4),
)
def test_looping_equals_speechbrain(length, batch_size, epoch_length, epochs):
    loaders = [
        looped(DataLoader(range(length), batch_size=batch_size), epoch_length)
        for looped in (LoopedLoader, TheirLooped)
    ]
    for _ in range(epochs):
        ours, expected = (as_lists(loader) for loader in loaders)
        assert ours == expected
        assert counts(loaders[0]) == counts(loaders[1])
    assert len(loaders[0]) == len(loaders[1]) == epoch_length


@pytest.mark.parametrize("end_of_epoch", [True, False])
@pytest.mark.parametrize("steps", [0, 2, 5, "end", 8])
@pytest.mark.parametrize("checkpointer", [Checkpointer, TheirCheckpointer])
def test_checkpoints_go_both_ways(tmp_path, steps, end_of_epoch, checkpointer):
    classes = (LoopedLoader, TheirLooped)
    found = {}
    for writer, reader in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        loader = classes[writer]([[1, 2]] * 3, 5)
        iterator = iter(loader)
        if steps == "end":
            list(iterator)
        elif steps == 8:
            list(iterator)
            take(iter(loader), 3)
        else:
            take(iterator, steps)
        folder = tmp_path / f"{writer}{reader}"
        checkpoint = checkpointer(folder, {"loader": loader}).save_checkpoint(
            end_of_epoch=end_of_epoch
        )
        again = classes[reader]([[1, 2]] * 3, 5)
        checkpointer(folder, {"loader": again}).recover_if_possible()
        found[writer, reader] = (
            checkpoint.paramfiles["loader"].read_text(),
            counts(again),
            len(list(again)),
            counts(again),
        )
    assert len(set(found.values())) == 1
    if steps == "end" and not end_of_epoch:
        assert found[0, 0][2] == 0


@given(
    length=st.integers(1, 12),
    batch_size=st.integers(1, 4),
    epoch_length=st.integers(1, 6),
    steps=st.integers(0, 20),
)
@settings(deadline=None)
def test_a_resumed_run_goes_on_in_the_middle_of_the_data(
    tmp_path_factory, length, batch_size, epoch_length, steps
):
    folder = tmp_path_factory.mktemp("looped")

    def make():
        sampler = ReproducibleRandomSampler(range(length))
        inner = SaveableDataLoader(Recording(length), batch_size=batch_size, sampler=sampler)
        return LoopedLoader(inner, epoch_length)

    def stream(loader):
        """Every step, with the epoch set before each nominal epoch as Brain does."""
        while True:
            loader.loader.sampler.set_epoch(loader.total_steps // epoch_length)
            yield from loader

    loader = make()
    batches = stream(loader)
    take(batches, steps)
    loader.save(folder / "x")
    again = make()
    again.load(folder / "x", end_of_epoch=loader.step == 0)
    assert take(stream(again), 15) == take(batches, 15)
    assert counts(again) == counts(loader)


def test_the_skipped_data_is_not_loaded(tmp_path):
    loader = LoopedLoader(SaveableDataLoader(Recording(10), batch_size=2), 4)
    take(iter(loader), 3)
    loader.save(tmp_path / "x")
    again = LoopedLoader(SaveableDataLoader(Recording(10), batch_size=2), 4)
    again.load(tmp_path / "x", False)
    assert as_lists(again) == [[6, 7]]
    assert again.loader.dataset.loaded == [6, 7]


def test_a_file_of_speechbrain_starts_the_data_anew(tmp_path):
    loader = TheirLooped(DataLoader(range(10), batch_size=2), 4)
    take(iter(loader), 3)
    loader.save(tmp_path / "x")
    again = LoopedLoader(SaveableDataLoader(range(10), batch_size=2), 4)
    again.load(tmp_path / "x", False)
    assert as_lists(again) == [[0, 1]]


def test_a_state_left_from_another_step_is_not_taken(tmp_path):
    loader = LoopedLoader(SaveableDataLoader(range(10), batch_size=2), 4)
    take(iter(loader), 3)
    loader.save(tmp_path / "x")
    (tmp_path / "x").write_text("2\n2\n4\n")
    again = LoopedLoader(SaveableDataLoader(range(10), batch_size=2), 4)
    again.load(tmp_path / "x", False)
    assert as_lists(again) == [[0, 1], [2, 3]]


def test_an_iterated_loader_keeps_its_place_in_the_data(tmp_path):
    loader = LoopedLoader(SaveableDataLoader(range(10), batch_size=2), 4)
    take(iter(loader), 1)
    loader.save(tmp_path / "x")
    take(iter(loader), 1)
    loader.load(tmp_path / "x", False)
    assert counts(loader) == (1, 1, 2)
    assert take(iter(loader), 1) == [[4, 5]]


def test_a_given_function_for_the_batch_size_is_used():
    # SpeechBrain forgets it and fails at the first batch.
    loader = LoopedLoader([["a", "b"]], 3, batchsize_fn=lambda batch: 10)
    list(loader)
    assert loader.total_samples == 30
    with pytest.raises(AttributeError):
        list(TheirLooped([["a", "b"]], 3, batchsize_fn=lambda batch: 10))


def test_the_guessed_batch_size_counts_samples():
    loader = LoopedLoader(DataLoader(torch.rand(7, 2), batch_size=3), 4)
    list(loader)
    assert loader.total_samples == 3 + 3 + 1 + 3


@pytest.mark.parametrize("empty", [[], iter([1])])
def test_a_loader_without_batches_is_refused(empty):
    loader = LoopedLoader(empty, 3)
    with pytest.raises(ValueError, match=r"got no batch from list|cannot be started again"):
        list(loader)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "many", None, True])
def test_a_length_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="length of a nominal epoch is"):
        LoopedLoader([1], wrong)


def test_a_length_from_yaml_may_be_a_float():
    assert len(LoopedLoader([1], 1e3)) == 1000


@pytest.mark.parametrize("content", ["", "1\n2\n", "1\n2\nx\n"])
def test_a_file_of_something_else_is_named(tmp_path, content):
    path = tmp_path / "looped.ckpt"
    path.write_text(content)
    loader = LoopedLoader([1], 3)
    with pytest.raises(ValueError, match=r"looped\.ckpt should hold the step, total steps"):
        loader.load(path)
    assert counts(loader) == (0, 0, 0)
