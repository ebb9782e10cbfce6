"""What workers draw at random goes on in an epoch that is resumed, each in its own worker."""

import random

import numpy
import pytest
import torch
from torch.utils.data import BatchSampler, Dataset, SequentialSampler, get_worker_info

# What torch does to the batches of workers in its thread that pins memory.
from torch.utils.data._utils.pin_memory import pin_memory

from brain_lightning.parts.data.loading_workers import WorkerBatch
from brain_lightning.parts.data.saveable_loader import SaveableDataLoader

# So many workers as a machine may not have cores.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

ITEMS = 22


class Drawing(Dataset):
    """Each item with what its worker draws for it, and which worker that is."""

    def __len__(self):
        return ITEMS

    def __getitem__(self, index):
        drawn = torch.rand(1).item(), random.random(), numpy.random.rand()
        return index, *drawn, get_worker_info().id


class DrawingSeveral(Drawing):
    """One that loads a batch at once, and cannot load an empty one."""

    def __getitems__(self, indices):
        assert indices
        return [self[index] for index in indices]


def own_seed(worker):
    """What many recipes do, as numpy had the same seed in all workers once."""
    numpy.random.seed(40 + worker)


WAYS = {
    "batches": lambda: {"batch_size": 2},
    "one by one": lambda: {"batch_size": None},
    "lists as a sampler": lambda: {
        "batch_size": None,
        "sampler": BatchSampler(SequentialSampler(range(ITEMS)), 2, False),
    },
    "worker_init_fn": lambda: {"batch_size": 2, "worker_init_fn": own_seed},
    "persistent": lambda: {"batch_size": 3, "persistent_workers": True},
    "drawn ahead": lambda: {"batch_size": 1, "prefetch_factor": 4},
    "shuffled": lambda: {"batch_size": 2, "shuffle": True},
}


class DrawingLists(Drawing):
    """One whose index is a list."""

    def __getitem__(self, index):
        if not isinstance(index, list):
            return super().__getitem__(index)
        return [Drawing.__getitem__(self, each) for each in index]


def as_it_is(examples):
    return examples


def make(way, workers, dataset=DrawingLists, **further):
    options = {"num_workers": workers, "collate_fn": as_it_is, **WAYS[way](), **further}
    return SaveableDataLoader(dataset(), **options)


def saved_after(loader, path, count):
    iterator = iter(loader)
    before = [next(iterator) for _ in range(count)]
    loader.save(path)
    return before, [*iterator], [*loader]


@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.long)])
@pytest.mark.parametrize("way", WAYS)
def test_each_worker_goes_on(tmp_path, way, workers):
    torch.manual_seed(5)
    total = len(make(way, workers))
    for count in (0, 1, 5, total):
        loader = make(way, workers)
        _, rest, _ = saved_after(loader, tmp_path / "x", count)
        torch.rand(1)
        resumed = make(way, workers)
        resumed.load(tmp_path / "x", False)
        assert [*resumed] == rest, count


def test_the_numbers_are_not_those_of_the_epochs_start(tmp_path):
    before, rest, next_epoch = saved_after(make("batches", 2), tmp_path / "x", 4)
    drawn = [item[1:4] for batch in (*before, *rest, *next_epoch) for item in batch]
    assert len(set(drawn)) == len(drawn) == 2 * ITEMS


@pytest.mark.parametrize("way", ["batches", "one by one", "persistent"])
def test_interrupted_again_and_again(tmp_path, way):
    torch.manual_seed(5)
    loader = make(way, 3)
    _, expected, next_epoch = saved_after(loader, tmp_path / "x", 1)
    found = []
    for _ in range(3):
        loader = make(way, 3)
        loader.load(tmp_path / "x", False)
        iterator = iter(loader)
        found += [next(iterator), next(iterator)]
        loader.save(tmp_path / "x")
    assert [*found, *iterator] == expected
    if way == "persistent":
        assert [*loader] == next_epoch  # which needs nothing but the workers


def test_workers_that_persist_go_on_after_the_end_of_an_epoch(tmp_path):
    torch.manual_seed(5)
    loader = make("persistent", 2)
    list(loader)
    loader.save(tmp_path / "x")
    expected = [*loader]
    resumed = make("persistent", 2)
    resumed.load(tmp_path / "x", True)
    assert [*resumed] == expected


def test_a_data_set_that_loads_several_items_at_once(tmp_path):
    _, rest, _ = saved_after(make("batches", 2, DrawingSeveral), tmp_path / "x", 3)
    resumed = make("batches", 2, DrawingSeveral)
    resumed.load(tmp_path / "x", False)
    assert [*resumed] == rest


@pytest.mark.parametrize(("way", "dataset"), [("alone", Drawing), ("several", DrawingSeveral)])
def test_workers_that_persist_behind_an_epoch_of_which_nothing_was_left(tmp_path, way, dataset):
    options = {"batch_size": None} if way == "alone" else {"batch_size": 3}

    def make_loader():
        workers = {"num_workers": 3, "persistent_workers": True, "collate_fn": as_it_is}
        return SaveableDataLoader(dataset(), **options, **workers)

    torch.manual_seed(5)
    loader = make_loader()
    assert len(loader) % 3  # so that the next epoch's first batch was another worker's turn
    list(loader)
    loader.save(tmp_path / "x")
    expected = [*loader]
    resumed = make_loader()
    resumed.load(tmp_path / "x", False)
    assert [*resumed] == []
    assert [*resumed] == expected


@pytest.mark.long
def test_workers_that_are_not_forked(tmp_path):
    def spawning():
        return make("batches", 1, multiprocessing_context="spawn")

    _, rest, _ = saved_after(spawning(), tmp_path / "x", 3)
    resumed = spawning()
    resumed.load(tmp_path / "x", False)
    assert [*resumed] == rest


def test_another_number_of_workers_begins_anew(tmp_path):
    _, rest, _ = saved_after(make("batches", 2), tmp_path / "x", 3)
    resumed = make("batches", 3)
    resumed.load(tmp_path / "x", False)
    found = [item for batch in resumed for item in batch]
    assert [item[0] for item in found] == [item[0] for batch in rest for item in batch]
    assert {item[-1] for item in found} == {0, 1, 2}


class OneByOne:
    """Draws each index when it is asked for it."""

    def __iter__(self):
        return (random.randrange(ITEMS) for _ in range(ITEMS))

    def __len__(self):
        return ITEMS


@pytest.mark.parametrize(("workers", "same"), [(0, True), (2, False)])
def test_indices_that_are_drawn_one_by_one_from_the_generator_of_training(tmp_path, workers, same):
    def make_loader():
        return SaveableDataLoader(range(ITEMS), 1, sampler=OneByOne(), num_workers=workers)

    def training(iterator, steps):
        for _, batch in zip(range(steps), iterator, strict=False):
            random.random()  # as a step may
            yield batch.item()

    random.seed(1)
    loader = make_loader()
    iterator = iter(loader)
    list(training(iterator, 9))
    loader.save(tmp_path / "x")
    state = random.getstate()
    expected = list(training(iterator, ITEMS))
    resumed = make_loader()
    resumed.load(tmp_path / "x", False)
    random.setstate(state)
    assert (list(training(iter(resumed), ITEMS)) == expected) is same


class DrawingAtTimes(Drawing):
    """One that draws for every fifth item only."""

    def __getitem__(self, index):
        return super().__getitem__(index) if index % 5 == 0 else index


@pytest.mark.parametrize("count", [1, 2, 4, 7, 9])
def test_workers_that_draw_now_and_then(tmp_path, count):
    def drawing():
        return make("batches", 2, DrawingAtTimes)

    _, rest, _ = saved_after(drawing(), tmp_path / "x", count)
    resumed = drawing()
    resumed.load(tmp_path / "x", False)
    assert [*resumed] == rest


def test_states_are_sent_when_they_have_changed():
    loader = SaveableDataLoader(range(8), batch_size=1, num_workers=1)
    sent = [each.states for each in iter(loader)._batches._sent]
    assert sent[0]
    assert set(sent[1:]) == {b""}


def test_the_collate_function_stays_the_recipes():
    loader = make("batches", 2)
    iterator = iter(loader)
    assert loader.collate_fn is as_it_is
    next(iterator)
    assert loader.collate_fn is as_it_is


def test_pinning_leaves_what_came_with_a_batch():
    sent = WorkerBatch({"ids": ["a"]}, 1, b"states")
    assert pin_memory(sent) == sent
    assert type(pin_memory(sent)) is WorkerBatch
