"""The position in an IterableDataset that has a state, and what is said of one that has none."""

import logging

import pytest
import torch
from speechbrain.dataio.dataloader import SaveableDataLoader as TheirLoader
from speechbrain.utils.checkpoints import Checkpointer as TheirCheckpointer
from torch.utils.data import IterableDataset

from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.data.make_dataloader import make_dataloader
from brain_lightning.parts.data.saveable_loader import SaveableDataLoader
from tests.parts.data.loader_scenarios import as_lists

NAME = "brain_lightning.parts.data.saveable_loader"


class Plain(IterableDataset):
    def __iter__(self):
        return iter(range(10))


class Stateful(IterableDataset):
    """Numbers in an order drawn once, from where it was left."""

    def __init__(self, seed):
        self.order = torch.randperm(10, generator=torch.Generator().manual_seed(seed))
        self.read = 0
        self.given = []

    def __iter__(self):
        start, self.read = self.read, self.read
        for index in range(start, 10):
            self.read = index + 1
            self.given.append(index)
            yield self.order[index]
        self.read = 0

    def state_dict(self):
        return {"order": self.order, "read": self.read}

    def load_state_dict(self, state):
        self.order, self.read = state["order"], state["read"]


@pytest.mark.parametrize("batch_size", [1, 2, 3, None])
@pytest.mark.parametrize("taken", [0, 2, 3])
def test_the_data_goes_on_where_it_was(tmp_path, batch_size, taken):
    loader = SaveableDataLoader(Stateful(1), batch_size=batch_size)
    iterator = iter(loader)
    for _ in range(taken):
        next(iterator)
    Checkpointer(tmp_path, {"loader": loader}).save_checkpoint(end_of_epoch=False)
    again = SaveableDataLoader(Stateful(2), batch_size=batch_size)
    Checkpointer(tmp_path, {"loader": again}).recover_if_possible()
    assert again.position == taken
    batches = as_lists(again)
    assert batches == as_lists(iterator)
    assert again.position == loader.position
    assert again.dataset.given == list(range(taken * (batch_size or 1), 10))
    assert as_lists(again) == as_lists(loader)


def test_an_epoch_that_was_over_has_no_more(tmp_path):
    loader = SaveableDataLoader(Stateful(1), batch_size=4)
    list(loader)
    loader.save(tmp_path / "x")
    again = SaveableDataLoader(Stateful(1), batch_size=4)
    again.load(tmp_path / "x", False)
    assert as_lists(again) == []
    assert as_lists(again) == as_lists(loader)


def test_a_state_that_looks_the_same_at_both_ends_begins_again(tmp_path):
    class Wrapping(Stateful):
        def state_dict(self):
            return {"order": self.order, "read": self.read % 10}

    for kind, left in ((Wrapping, 5), (Stateful, 0)):
        loader = SaveableDataLoader(kind(1), batch_size=2)
        batches = iter(loader)
        for _ in range(5):
            next(batches)
        loader.save(tmp_path / "x")
        again = SaveableDataLoader(kind(1), batch_size=2)
        again.load(tmp_path / "x", False)
        assert len(list(again)) == left


def test_the_end_of_an_epoch_is_not_resumed(tmp_path):
    loader = SaveableDataLoader(Stateful(1), batch_size=4)
    next(iter(loader))
    loader.save(tmp_path / "x")
    again = SaveableDataLoader(Stateful(1), batch_size=4)
    again.load(tmp_path / "x", True)
    assert len(list(again)) == 3


def test_speechbrain_reads_the_folder(tmp_path):
    loader = SaveableDataLoader(Stateful(1), batch_size=4)
    next(iter(loader))
    Checkpointer(tmp_path, {"loader": loader}).save_checkpoint(end_of_epoch=False)
    again = TheirLoader(Stateful(1), batch_size=4)
    checkpointer = TheirCheckpointer(tmp_path, {"loader": again})
    assert set(checkpointer.find_checkpoint().paramfiles) == {"loader"}
    checkpointer.recover_if_possible()
    assert again._speechbrain_recovery_skip_to == 1


def test_a_looped_stream_goes_on_where_it_was(tmp_path):
    loader = make_dataloader(Stateful(1), looped_nominal_epoch=3, batch_size=2)
    for _ in range(3):
        list(loader)
    loader.save(tmp_path / "x")
    again = make_dataloader(Stateful(2), looped_nominal_epoch=3, batch_size=2)
    again.load(tmp_path / "x", True)
    assert as_lists(again) == as_lists(loader)


def test_a_state_that_needs_pickling_is_refused_when_saving(tmp_path):
    dataset = Stateful(1)
    dataset.order = Plain()
    loader = SaveableDataLoader(dataset)
    iter(loader)
    with pytest.raises(TypeError, match=r"has something other than tensors.*Plain"):
        loader.save(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("dataset", "workers"), [(Plain(), 0), (Stateful(1), 1)])
def test_what_cannot_be_saved_is_said_and_starts_anew(tmp_path, caplog, dataset, workers):
    def messages(level):
        return [record.message for record in caplog.records if record.levelno == level]

    loader = SaveableDataLoader(dataset, batch_size=2, num_workers=workers)
    assert "IterableDataset, whose position it cannot save" in messages(logging.WARNING)[0]
    caplog.clear()
    next(iter(loader))
    loader.save(tmp_path / "x")
    assert "its data will start anew" in messages(logging.WARNING)[0]
    assert (tmp_path / "x").read_text() == "1"
    again = SaveableDataLoader(dataset, batch_size=2, num_workers=workers)
    again.load(tmp_path / "x", False)
    assert len(list(again)) == 5
    assert again.position == 6


def test_the_counts_of_a_resume_without_a_state_are_speechbrains(tmp_path):
    for number, loader_class in enumerate((SaveableDataLoader, TheirLoader)):
        loader = loader_class(Plain(), batch_size=2)
        next(iter(loader))
        folder = tmp_path / str(number)
        TheirCheckpointer(folder, {"loader": loader}).save_checkpoint(end_of_epoch=False)
        again = loader_class(Plain(), batch_size=2)
        checkpointer = TheirCheckpointer(folder, {"loader": again})
        checkpointer.recover_if_possible()
        assert as_lists(again) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
        saved = checkpointer.save_checkpoint(end_of_epoch=False)
        assert saved.paramfiles["loader"].read_text() == "6"
