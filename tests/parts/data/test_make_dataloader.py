"""make_dataloader and the loaders' arguments for several processes, beside SpeechBrain's."""

import sys
import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from speechbrain.dataio import dataloader as theirs
from speechbrain.dataio import sampler as their_samplers
from speechbrain.dataio.batch import PaddedBatch as TheirBatch
from speechbrain.dataio.dataset import DynamicItemDataset, FilteredSortedDynamicItemDataset
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    SequentialSampler,
)

from brain_lightning.parts.data.looped_loader import LoopedLoader
from brain_lightning.parts.data.make_dataloader import (
    distributed_loader_specifics,
    make_dataloader,
)
from brain_lightning.parts.data.padded_batch import PaddedBatch
from brain_lightning.parts.data.samplers import (
    DistributedSamplerWrapper,
    ReproducibleRandomSampler,
)
from brain_lightning.parts.data.saveable_loader import SaveableDataLoader
from tests.parts.data.loader_scenarios import as_lists


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(5))


class StatefulStream(Stream):
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def dynamic_items():
    return DynamicItemDataset(
        {f"ex{length}": {"n": length} for length in (3, 1, 2)}, output_keys=["id", "n"]
    )


def test_the_first_example_of_the_core_page():
    (batch,) = make_dataloader(([torch.rand(10, 10), torch.rand(10, 10)],))
    assert [part.shape for part in batch] == [(1, 10, 10), (1, 10, 10)]


@pytest.mark.parametrize(
    "dataset",
    [[1, 2, 3], (1, 2, 3), torch.arange(3), range(3), "abc", {0: "a", 1: "b"}],
    ids=lambda dataset: type(dataset).__name__,
)
def test_any_indexable_is_a_data_set(dataset):
    loader = make_dataloader(dataset, batch_size=2)
    assert isinstance(loader, SaveableDataLoader)
    assert as_lists(loader) == as_lists(theirs.make_dataloader(dataset, batch_size=2))


def test_dynamic_items_come_in_padded_batches():
    dataset = dynamic_items()
    (batch,) = make_dataloader(dataset, batch_size=3)
    (expected,) = theirs.make_dataloader(dataset, batch_size=3)
    assert type(batch) is PaddedBatch
    assert type(expected) is TheirBatch
    assert batch.id == expected.id
    assert batch.n.tolist() == expected.n.tolist() == [3, 1, 2]
    filtered = dataset.filtered_sorted(sort_key="n")
    assert type(filtered) is FilteredSortedDynamicItemDataset
    assert make_dataloader(filtered).collate_fn is PaddedBatch


def test_a_given_collation_is_kept():
    assert make_dataloader(dynamic_items(), collate_fn=list).collate_fn is list
    loader = make_dataloader(dynamic_items(), collate_fn=None)
    assert loader.collate_fn is theirs.make_dataloader(dynamic_items(), collate_fn=None).collate_fn


def test_another_data_set_can_ask_for_padded_batches():
    class Asks(list):
        yields_example_dicts = True

    class AsksNot(DynamicItemDataset):
        yields_example_dicts = False

    (batch,) = make_dataloader(Asks([{"x": torch.ones(2)}, {"x": torch.ones(1)}]), batch_size=2)
    assert batch.x.lengths.tolist() == [1.0, 0.5]
    assert make_dataloader(AsksNot({"a": {"n": 1}})).collate_fn is not PaddedBatch


def test_a_class_of_the_same_name_elsewhere_is_no_dynamic_item_dataset():
    other = type("DynamicItemDataset", (list,), {"__module__": "speechbrain_like.data"})
    assert make_dataloader(other([1])).collate_fn is not PaddedBatch


@given(length=st.integers(1, 30), seed=st.none() | st.integers(0, 10**9), epoch=st.integers(0, 5))
@settings(deadline=None)
def test_shuffling_equals_speechbrain(length, seed, epoch):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SB_GLOBAL_SEED", raising=False)
        if seed is not None:
            patch.setenv("SB_GLOBAL_SEED", str(seed))
        ours, expected = (
            make(range(length), shuffle=True, batch_size=2)
            for make in (make_dataloader, theirs.make_dataloader)
        )
    assert type(ours.sampler) is ReproducibleRandomSampler
    for loader in (ours, expected):
        loader.sampler.set_epoch(epoch)
    assert as_lists(ours) == as_lists(expected)


def test_the_callers_arguments_stay_as_they_are():
    arguments = {"shuffle": True, "batch_size": 2}
    make_dataloader(range(4), **arguments)
    assert arguments == {"shuffle": True, "batch_size": 2}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"shuffle": True, "sampler": SequentialSampler(range(3))}, "shuffle=True and a sampler"),
        ({"shuffle": True, "batch_sampler": [[0]]}, "shuffle=True and a batch_sampler"),
    ],
)
def test_shuffling_beside_a_sampler_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_dataloader(range(3), **arguments)
    with pytest.raises(ValueError, match=r"shuffle|batch_sampler"):
        theirs.make_dataloader(range(3), **arguments)


def test_shuffling_a_stream_is_refused():
    with pytest.raises(ValueError, match="shuffle within the data set"):
        make_dataloader(Stream(), shuffle=True)


def test_a_seed_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("SB_GLOBAL_SEED", "lucky")
    with pytest.raises(ValueError, match="SB_GLOBAL_SEED is 'lucky'"):
        make_dataloader(range(3), shuffle=True)


def test_streams():
    loader = make_dataloader(Stream(), batch_size=2)
    assert type(loader) is DataLoader is type(theirs.make_dataloader(Stream()))
    assert as_lists(loader) == [[0, 1], [2, 3], [4]]
    assert type(make_dataloader(StatefulStream())) is SaveableDataLoader


def test_a_looped_epoch():
    loader = make_dataloader(range(4), looped_nominal_epoch=3, batch_size=2)
    expected = theirs.make_dataloader(range(4), looped_nominal_epoch=3, batch_size=2)
    assert isinstance(loader, LoopedLoader)
    assert isinstance(loader.loader, SaveableDataLoader)
    assert as_lists(loader) == as_lists(expected) == [[0, 1], [2, 3], [0, 1]]


@pytest.mark.parametrize("name", ["DataPipeline", "Composable"])
def test_a_webdataset_makes_its_own_batches(name):
    assert "webdataset" not in sys.modules
    pipeline = type(name, (Stream,), {"__module__": "webdataset.pipeline"})
    derived = types.new_class("Mine", (pipeline,))
    assert list(make_dataloader(derived())) == [0, 1, 2, 3, 4]
    assert as_lists(make_dataloader(derived(), batch_size=5)) == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (5, "type int cannot be loaded: it needs __getitem__ and __len__"),
        (None, "type NoneType cannot be loaded"),
        ((number for number in range(3)), "wrap it in a torch.utils.data.IterableDataset"),
    ],
)
def test_what_is_no_data_set_is_refused(wrong, sentence):
    with pytest.raises(TypeError, match=sentence):
        make_dataloader(wrong)


def test_without_a_length_a_sampler_is_needed():
    class Endless:
        def __getitem__(self, index):
            return index

    with pytest.raises(TypeError, match="Endless has no __len__"):
        make_dataloader(Endless())
    assert as_lists(make_dataloader(Endless(), sampler=[7, 9], batch_size=2)) == [[7, 9]]


@pytest.fixture
def process_group():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


ARGUMENTS = {
    "nothing": dict,
    "sampler": lambda: {"sampler": SequentialSampler(range(9)), "drop_last": True},
    "sampler and shuffle": lambda: {"sampler": SequentialSampler(range(9)), "shuffle": True},
    "batch sampler": lambda: {"batch_sampler": BatchSampler(range(9), 2, False)},
    "shuffle": lambda: {"shuffle": True, "batch_size": 4},
}


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("name", ARGUMENTS)
def test_distributed_arguments_equal_speechbrain(name):
    given_arguments = ARGUMENTS[name]()
    before = dict(given_arguments)
    ours = distributed_loader_specifics(True, 0, range(9), given_arguments)
    assert given_arguments == before
    expected = theirs.distributed_loader_specifics(True, 0, range(9), ARGUMENTS[name]())
    assert ours.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, DistributedSampler):
            wrapper = isinstance(value, their_samplers.DistributedSamplerWrapper)
            assert type(ours[key]) is (DistributedSamplerWrapper if wrapper else DistributedSampler)
            assert list(ours[key]) == list(value)
            settings_of = [(s.shuffle, s.drop_last, s.rank) for s in (ours[key], value)]
            assert settings_of[0] == settings_of[1]
        else:
            assert ours[key] == value
    assert as_lists(DataLoader(range(9), **ours)) == as_lists(DataLoader(range(9), **expected))


@pytest.mark.usefixtures("process_group")
def test_a_stream_cannot_be_shared_out(caplog):
    assert distributed_loader_specifics(True, 0, Stream(), {"batch_size": 2}) == {"batch_size": 2}
    assert "cannot be shared out" in caplog.text


def test_one_process_changes_nothing():
    assert distributed_loader_specifics(False, None, range(9), {"shuffle": True}) == {
        "shuffle": True
    }
