"""Generators of a data set's own: found, saved without pickling, and gone on with."""

import random

import numpy
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, get_worker_info

from brain_lightning.parts.checkpoints.resume_file import read_resume_file, write_resume_file
from brain_lightning.parts.data.dataset_generators import (
    dataset_generator_names,
    dataset_generator_states,
    set_dataset_generator_states,
)
from brain_lightning.parts.data.saveable_loader import SaveableDataLoader

KINDS = {
    "torch": (lambda: torch.Generator().manual_seed(3), lambda each: torch.rand(1, generator=each)),
    "python": (lambda: random.Random(3), lambda each: each.gauss(0, 1)),
    "numpy": (lambda: numpy.random.default_rng(3), lambda each: each.normal()),
    "numpy, Philox": (
        lambda: numpy.random.Generator(numpy.random.Philox(3)),
        lambda each: each.integers(100, dtype=numpy.uint16),
    ),
    "numpy, Mersenne": (
        lambda: numpy.random.Generator(numpy.random.MT19937(3)),
        lambda each: each.normal(),
    ),
    "numpy, old": (lambda: numpy.random.RandomState(3), lambda each: each.normal()),
}


class Drawing(Dataset):
    """Each item with a number from a generator of the data set's."""

    def __init__(self, kind="python"):
        make, self.draw = KINDS[kind]
        self.own = make()

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return index, float(self.draw(self.own))


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_goes_through_a_file(tmp_path, kind):
    dataset, again = Drawing(kind), Drawing(kind)
    for _ in range(3):
        dataset[0]
    write_resume_file(tmp_path / "x", dataset_generator_states(dataset))
    expected = [dataset[0] for _ in range(700)]
    states = read_resume_file(tmp_path / "x")
    assert list(states) == ["own"]
    set_dataset_generator_states(again, states)
    assert [again[0] for _ in range(700)] == expected


def test_those_of_data_sets_within_are_found():
    within = ConcatDataset([Drawing(), Subset(Drawing("numpy"), [1, 2])])
    states = dataset_generator_states(within)
    assert list(states) == ["datasets.0.own", "datasets.1.dataset.own"]


def test_one_that_is_shared_is_taken_once():
    several = ConcatDataset([Drawing(), Drawing()])
    several.datasets[1].own = several.datasets[0].own
    assert list(dataset_generator_states(several)) == ["datasets.0.own"]


def test_another_kind_of_generator_stays_as_it_is():
    dataset, other = Drawing("numpy"), Drawing("python")
    set_dataset_generator_states(other, dataset_generator_states(dataset))
    assert other[0] == Drawing("python")[0]


def test_what_is_no_data_set_has_none():
    assert dataset_generator_states([1, 2]) == {}
    assert dataset_generator_states(range(3)) == {}


class Reading(random.Random):
    """Numbers from elsewhere, which have no state."""

    def getstate(self):
        raise NotImplementedError


class Slotted:
    """One that finds all its attributes itself."""

    __slots__ = ()

    def __getattr__(self, name):
        raise KeyError(name)


class Unbound:
    """Stands for something that is there only at times."""

    @property
    def __class__(self):
        raise RuntimeError("it stands for nothing now")


def test_what_cannot_be_asked_is_left_alone():
    dataset = Drawing()
    dataset.within, dataset.dataset, dataset.reading = Unbound(), Slotted(), Reading()
    assert list(dataset_generator_states(dataset)) == ["own"]


class OnDevice(torch.Generator):
    """Stands for one of a GPU, which a forked worker must not touch."""

    device = torch.device("cuda")

    def get_state(self):
        assert get_worker_info() is None, "Cannot re-initialize CUDA in forked subprocess"
        return super().get_state()


def test_workers_leave_those_of_a_device_alone():
    dataset = Drawing()
    dataset.on_device = OnDevice()
    assert "on_device" in dataset_generator_states(dataset)
    loader = SaveableDataLoader(dataset, 4, num_workers=1, collate_fn=list)
    assert len([*loader]) == 3


class Filling(torch.Generator):
    """Its state is asked for while a thread of the data set's gives that another attribute."""

    filled = None

    def get_state(self):
        self.filled.loaded_by_a_thread = True
        return super().get_state()


def test_attributes_may_be_added_meanwhile():
    dataset = Drawing()
    dataset.filling = Filling()
    dataset.filling.filled = dataset
    dataset.last = random.Random(1)
    assert list(dataset_generator_states(dataset)) == ["own", "filling", "last"]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loader_goes_on_with_them(tmp_path, kind, workers):
    def make():
        return SaveableDataLoader(Drawing(kind), 2, num_workers=workers, collate_fn=list)

    loader = make()
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    loader.save(tmp_path / "x")
    expected = [*iterator], [*loader]
    resumed = make()
    resumed.load(tmp_path / "x", False)
    assert ([*resumed], [*resumed]) == expected


class MakingIt(Drawing):
    """One that makes its generator when it draws for the first time, in a worker say."""

    def __init__(self, kind):
        super().__init__(kind)
        self.kind, self.own = kind, None

    def __getitem__(self, index):
        if self.own is None:
            self.own = KINDS[self.kind][0]()
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_that_the_data_set_makes_itself(tmp_path, kind, workers):
    def make_loader():
        subset = Subset(MakingIt(kind), range(12))
        return SaveableDataLoader(subset, 2, num_workers=workers, collate_fn=list)

    loader = make_loader()
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    loader.save(tmp_path / "x")
    expected = [*iterator]
    resumed = make_loader()
    resumed.load(tmp_path / "x", False)
    assert [*resumed] == expected


def test_one_that_is_switched_off_now_stays_away():
    dataset, without = Drawing(), Drawing()
    without.own = None
    states = dataset_generator_states(dataset, dataset_generator_names(dataset))
    set_dataset_generator_states(without, states)
    assert without.own is None


def test_the_epoch_after_a_finished_one(tmp_path):
    loader = SaveableDataLoader(Drawing(), 2, collate_fn=list)
    list(loader)
    loader.save(tmp_path / "x")
    resumed = SaveableDataLoader(Drawing(), 2, collate_fn=list)
    resumed.load(tmp_path / "x", True)
    assert [*resumed] == [*loader]


def test_one_that_the_sampler_draws_from_too(tmp_path):
    def make():
        dataset = Drawing("torch")
        return SaveableDataLoader(dataset, 2, shuffle=True, generator=dataset.own, collate_fn=list)

    loader = make()
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    loader.save(tmp_path / "x")
    expected = [*iterator], [*loader]
    resumed = make()
    resumed.load(tmp_path / "x", False)
    assert ([*resumed], [*resumed]) == expected


@pytest.mark.parametrize(("workers", "lost"), [(0, "dataset_generators"), (2, "workers")])
def test_without_their_states_they_begin_anew(workers, lost):
    """So the tests above can fail."""

    def make():
        return SaveableDataLoader(Drawing(), 2, num_workers=workers, collate_fn=list)

    loader = make()
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    state = loader.state_dict()
    del state[lost]
    expected = [item for batch in iterator for item in batch]
    resumed = make()
    resumed.load_state_dict(state)
    found = [item for batch in resumed for item in batch]
    assert [index for index, _ in found] == [index for index, _ in expected]
    assert found != expected
