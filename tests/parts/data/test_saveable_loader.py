"""SaveableDataLoader: what it resumes, ignores, refuses and keeps of a DataLoader."""

import logging
import pickle
import random
import subprocess
import sys
import textwrap

import numpy
import pytest
import torch
from speechbrain.dataio.dataloader import SaveableDataLoader as TheirLoader
from speechbrain.dataio.sampler import DynamicBatchSampler
from speechbrain.utils.checkpoints import Checkpointer as TheirCheckpointer
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.data.samplers import ReproducibleRandomSampler
from brain_lightning.parts.data.saveable_loader import SaveableDataLoader
from tests.parts.data.loader_scenarios import (
    Recording,
    RegeneratingBatchSampler,
    as_lists,
    random_numbers,
    seed_everything,
)


def handed_over(loader, count):
    """Take some batches of a new epoch and go away."""
    iterator = iter(loader)
    return [next(iterator) for _ in range(count)]


def saved(loader, path, count):
    handed_over(loader, count)
    loader.save(path)
    return path


def test_is_a_data_loader_in_all_its_attributes():
    sampler = SequentialSampler(range(7))
    dataset = Recording(7)
    loader = SaveableDataLoader(dataset, batch_size=3, sampler=sampler, drop_last=True)
    plain = DataLoader(dataset, batch_size=3, sampler=sampler, drop_last=True)
    assert isinstance(loader, DataLoader)
    assert loader.dataset is dataset
    assert loader.sampler is sampler
    assert type(loader.batch_sampler) is BatchSampler
    assert len(loader) == len(plain) == 2
    assert len(iter(loader)) == 2
    assert (loader.batch_size, loader.drop_last, loader.num_workers) == (3, True, 0)
    with pytest.raises(ValueError, match="should not be set after SaveableDataLoader"):
        loader.batch_sampler = None


def test_attributes_and_length_stay_right_after_a_resume(tmp_path):
    path = saved(SaveableDataLoader(Recording(9), batch_size=2), tmp_path / "x", 2)
    batch_sampler = BatchSampler(SequentialSampler(range(9)), 2, False)
    loader = SaveableDataLoader(Recording(9), batch_sampler=batch_sampler)
    loader.load(path, False)
    iterator = iter(loader)
    assert len(iterator) == len(loader) == 5
    assert loader.batch_sampler is batch_sampler
    assert len(list(iterator)) == 3
    assert len(list(loader)) == 5


def test_a_loader_can_be_pickled_before_and_in_an_epoch(tmp_path):
    loader = SaveableDataLoader(Recording(5), batch_size=2)
    assert as_lists(pickle.loads(pickle.dumps(loader))) == [[0, 1], [2, 3], [4]]
    handed_over(loader, 2)
    copy = pickle.loads(pickle.dumps(loader))
    assert copy.position == 2
    assert as_lists(copy) == [[0, 1], [2, 3], [4]]


def test_position_counts_what_was_handed_over(tmp_path):
    loader = SaveableDataLoader(range(5), batch_size=2)
    assert loader.position is None
    iterator = iter(loader)
    assert loader.position == 0
    next(iterator)
    assert loader.position == 1
    assert len(list(iterator)) == 2
    assert loader.position == 3
    iter(loader)
    assert loader.position == 0


def test_an_abandoned_iteration_does_not_count():
    loader = SaveableDataLoader(range(6), batch_size=2)
    old, new = iter(loader), iter(loader)
    next(new)
    assert len(list(old)) == 3
    assert loader.position == 1


def test_prefetching_workers_do_not_count():
    loader = SaveableDataLoader(range(12), batch_size=2, num_workers=2)
    handed_over(loader, 1)
    assert loader.position == 1


@pytest.mark.parametrize("loader_class", [SaveableDataLoader, TheirLoader])
@pytest.mark.parametrize("is_shuffled_now", [True, False])
def test_a_resume_may_shuffle_where_the_run_did_not_and_the_other_way_round(
    tmp_path, loader_class, is_shuffled_now
):
    def loader(is_shuffled):
        kind = ReproducibleRandomSampler if is_shuffled else SequentialSampler
        sampler = kind(range(8))
        if is_shuffled:
            sampler.set_epoch(4)
        return loader_class(range(8), batch_size=2, sampler=sampler)

    before = loader(not is_shuffled_now)
    checkpointer = Checkpointer(tmp_path, {"loader": before})
    handed_over(before, 1)
    checkpointer.save_checkpoint(end_of_epoch=False)
    resumed, whole = loader(is_shuffled_now), loader(is_shuffled_now)
    Checkpointer(tmp_path, {"loader": resumed}).recover_if_possible()
    assert as_lists(resumed) == as_lists(whole)[1:]


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_file_is_speechbrains(tmp_path, count, workers):
    for number, loader_class in enumerate((SaveableDataLoader, TheirLoader)):
        loader = loader_class(range(6), batch_size=2, num_workers=workers)
        checkpointer = TheirCheckpointer(tmp_path / str(number), {"loader": loader})
        before = checkpointer.save_checkpoint(name="before").paramfiles["loader"].read_text()
        iterator = iter(loader)
        for _ in range(count):
            next(iterator)
        within = checkpointer.save_checkpoint(name="within").paramfiles["loader"].read_text()
        list(iterator)
        after = checkpointer.save_checkpoint(name="after").paramfiles["loader"].read_text()
        assert (before, within, after) == ("None", str(count), "3")


@pytest.mark.parametrize("loader_class", [SaveableDataLoader, TheirLoader])
def test_the_names_that_speechbrains_kmeans_calls(tmp_path, loader_class):
    loader = loader_class(range(10), batch_size=2)
    next(iter_of := iter(loader))
    next(iter_of)
    loader._speechbrain_save(tmp_path / "dataloader-TRAIN.ckpt")
    resumed = loader_class(range(10), batch_size=2)
    resumed._speechbrain_load(tmp_path / "dataloader-TRAIN.ckpt", False)
    of_the_end = loader_class(range(10), batch_size=2)
    of_the_end._speechbrain_load(tmp_path / "dataloader-TRAIN.ckpt", end_of_epoch=True)

    assert as_lists(resumed) == [[4, 5], [6, 7], [8, 9]]
    assert len(as_lists(of_the_end)) == 5


def test_the_skipped_data_is_not_loaded(tmp_path):
    path = saved(SaveableDataLoader(Recording(10), batch_size=2), tmp_path / "x", 3)
    dataset = Recording(10)
    loader = SaveableDataLoader(dataset, batch_size=2)
    loader.load(path, False)
    assert loader.position == 3
    assert as_lists(loader) == [[6, 7], [8, 9]]
    assert dataset.loaded == [6, 7, 8, 9]
    assert as_lists(loader) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_a_position_that_was_loaded_can_be_saved_before_it_is_used(tmp_path):
    path = saved(SaveableDataLoader(range(10), batch_size=2), tmp_path / "x", 3)
    loader = SaveableDataLoader(range(10), batch_size=2)
    loader.load(path, False)
    loader.save(tmp_path / "y")
    assert (tmp_path / "y").read_text() == "3"
    again = SaveableDataLoader(range(10), batch_size=2)
    again.load(tmp_path / "y", False)
    assert as_lists(again) == [[6, 7], [8, 9]]


def test_the_end_of_an_epoch_is_not_resumed(tmp_path):
    path = saved(SaveableDataLoader(range(4)), tmp_path / "x", 3)
    loader = SaveableDataLoader(range(4))
    loader.load(path, True)
    assert loader.position is None
    assert len(list(loader)) == 4


def test_the_last_checkpoint_loaded_counts(tmp_path):
    path = saved(SaveableDataLoader(range(4)), tmp_path / "x", 3)
    loader = SaveableDataLoader(range(4))
    loader.load(path, False)
    loader.load(path, True)
    assert len(list(loader)) == 4


def test_an_iterated_loader_ignores_checkpoints(tmp_path, caplog):
    path = saved(SaveableDataLoader(range(4)), tmp_path / "x", 3)
    loader = SaveableDataLoader(range(4))
    logger = logging.getLogger("brain_lightning.parts.data.saveable_loader")
    list(loader)
    with caplog.at_level(logging.DEBUG, logger.name):
        loader.load(path, False)
    assert "has been iterated already and ignores the checkpoint" in caplog.text
    assert {record.levelname for record in caplog.records} == {"DEBUG"}
    assert len(list(loader)) == 4


def test_none_is_accepted(tmp_path):
    loader = SaveableDataLoader(range(4))
    loader.save(tmp_path / "x")
    loader.load(tmp_path / "x", False)
    assert loader.position is None
    assert len(list(loader)) == 4


def test_an_epoch_whose_batches_were_all_used_is_empty_once(tmp_path):
    for loader_class in (SaveableDataLoader, TheirLoader):
        loader = loader_class(range(4), batch_size=2)
        list(loader)
        TheirCheckpointer(tmp_path, {"loader": loader}).save_checkpoint(end_of_epoch=False)
        again = loader_class(range(4), batch_size=2)
        TheirCheckpointer(tmp_path, {"loader": again}).recover_if_possible()
        assert as_lists(again) == []
        assert as_lists(again) == [[0, 1], [2, 3]]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("writer", [SaveableDataLoader, TheirLoader])
def test_a_skip_beyond_the_end_is_a_warning_and_an_empty_epoch(tmp_path, writer, workers):
    loader = writer(range(9), batch_size=2)
    list(loader)
    TheirCheckpointer(tmp_path, {"loader": loader}).save_checkpoint(end_of_epoch=False)
    for reader in (SaveableDataLoader, TheirLoader):
        again = reader(range(5), batch_size=2, num_workers=workers)
        TheirCheckpointer(tmp_path, {"loader": again}).recover_if_possible()
        with pytest.warns(UserWarning, match=r"5 batches .* only 3|Tried to fast-forward"):
            iterator = iter(again)
        assert list(iterator) == []
        if reader is SaveableDataLoader:
            assert again.position == 3


@pytest.mark.parametrize("checkpointer", [Checkpointer, TheirCheckpointer])
@pytest.mark.parametrize("workers", [0, 2])
def test_checkpoints_go_both_ways(tmp_path, checkpointer, workers):
    classes = (SaveableDataLoader, TheirLoader)
    for number, (writer, reader) in enumerate([classes, classes[::-1]]):
        first = writer(range(10), batch_size=3, num_workers=workers)
        iterator = iter(first)
        next(iterator)
        folder = tmp_path / str(number)
        checkpointer(folder, {"loader": first}).save_checkpoint(end_of_epoch=False)
        again = reader(range(10), batch_size=3, num_workers=workers)
        checkpointer(folder, {"loader": again}).recover_if_possible()
        assert as_lists(again) == as_lists(iterator) == [[3, 4, 5], [6, 7, 8], [9]]


def test_speechbrain_saving_over_our_checkpoint_leaves_nothing_of_ours(tmp_path):
    seed_everything(1)
    path = saved(SaveableDataLoader(range(10), shuffle=True), tmp_path / "x", 3)
    path.write_text("2")
    loader = SaveableDataLoader(range(10), shuffle=True)
    loader.load(path, False)
    seed_everything(2)
    rest = as_lists(loader)
    seed_everything(2)
    assert rest == as_lists(SaveableDataLoader(range(10), shuffle=True))[2:]


@pytest.mark.parametrize("shuffle", [True, False])
def test_speechbrains_dynamic_batches(tmp_path, shuffle):
    """It makes its next batches when it is run to its end; so it is, after a resume too."""

    def make(loader_class):
        sampler = DynamicBatchSampler(
            range(20),
            max_batch_length=12,
            num_buckets=3,
            lengths_list=[1 + index % 7 for index in range(20)],
            shuffle=shuffle,
            batch_ordering="random",
        )
        return loader_class(range(20), batch_sampler=sampler)

    uninterrupted = make(TheirLoader)
    expected = [as_lists(uninterrupted), as_lists(uninterrupted), as_lists(uninterrupted)]
    first = make(SaveableDataLoader)
    handed_over(first, 3)
    first.save(tmp_path / "x")
    again = make(SaveableDataLoader)
    again.load(tmp_path / "x", False)
    assert [expected[0][:3] + as_lists(again), as_lists(again), as_lists(again)] == expected
    over = make(SaveableDataLoader)
    list(over)
    over.save(tmp_path / "y")
    after = make(SaveableDataLoader)
    after.load(tmp_path / "y", False)
    assert [as_lists(after), as_lists(after)] == [[], expected[1]]


@pytest.mark.parametrize("is_in_epoch", [False, True])
@pytest.mark.parametrize(("examples", "length"), [(10, 12), (30, 12), (20, 8)])
def test_batches_of_other_data_or_options_are_made_anew(
    tmp_path, caplog, examples, length, is_in_epoch
):
    """As when the longest batch did not fit into memory, or a broken example was taken out."""

    def make(examples, length):
        sampler = DynamicBatchSampler(
            range(examples),
            max_batch_length=length,
            num_buckets=3,
            lengths_list=[1 + index % 7 for index in range(examples)],
            shuffle=True,
        )
        return SaveableDataLoader(range(examples), batch_sampler=sampler)

    loader = make(20, 12)
    list(loader)
    list(loader)
    if is_in_epoch:
        handed_over(loader, 2)
    loader.save(tmp_path / "x")
    resumed = make(examples, length)
    resumed.load(tmp_path / "x", not is_in_epoch)
    assert as_lists(resumed) == as_lists(make(examples, length))[2 if is_in_epoch else 0 :]
    assert "its order begins anew" in caplog.text


class Growing:
    """One batch more in each epoch."""

    def __init__(self):
        self.batches = [[0], [1], [2]]

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        yield from self.batches
        self.batches = [*self.batches, [len(self.batches)]]


def test_a_sampler_that_an_earlier_loader_has_used_goes_on_in_one_that_is_new(tmp_path):
    """As in the second fit() of a script, which is resumed behind the first."""
    sampler = Growing()
    list(SaveableDataLoader(range(20), batch_sampler=sampler))
    loader = SaveableDataLoader(range(20), batch_sampler=sampler)
    list(loader)
    handed_over(loader, 2)
    loader.save(tmp_path / "x")
    resumed = SaveableDataLoader(range(20), batch_sampler=Growing())
    resumed.load(tmp_path / "x", False)
    assert as_lists(resumed) == [[2], [3], [4]]


KEEPING = ["dynamic", "regenerating", "shuffled in place", "array", "numbers", "own Random"]


class Keeping:
    """Batches whose order depends on the epochs before, each kind in another way."""

    def __init__(self, kind):
        self.kind = kind
        self.order = list(range(9))
        self.array = numpy.arange(9)
        self.python = random.Random(3)

    def __len__(self):
        return 9

    def __iter__(self):
        order = list(self.array) if self.kind == "array" else self.order
        if self.kind == "own Random":
            order = self.python.sample(order, 9)
        yield from order
        if self.kind == "array":
            self.array = (self.array * 2 + 1) % 9
        elif self.kind == "numbers":
            self.order = list(numpy.random.RandomState(self.order[3]).permutation(9))
        elif self.kind == "shuffled in place":
            self.order.append(self.order.pop(2))
            self.mixed = [0, object()]  # cannot be saved, and stops no save


def keeping_loader(kind):
    if kind == "dynamic":
        sampler = DynamicBatchSampler(
            range(20),
            max_batch_length=12,
            num_buckets=3,
            lengths_list=[1 + index % 7 for index in range(20)],
            shuffle=False,
            batch_ordering="random",
        )
        return SaveableDataLoader(range(20), batch_sampler=sampler, num_workers=1)
    if kind == "regenerating":
        return SaveableDataLoader(range(9), batch_sampler=RegeneratingBatchSampler(9, 2))
    return SaveableDataLoader(range(9), sampler=Keeping(kind), batch_size=2)


@pytest.mark.parametrize("taken", [0, 2, None], ids=str)
@pytest.mark.parametrize("kind", KEEPING)
def test_orders_that_depend_on_the_epochs_before(tmp_path, kind, taken):
    """Resumed in the third epoch and again in the fourth, without a set_epoch of anybody's."""
    whole = keeping_loader(kind)
    expected = [as_lists(whole) for _ in range(5)]
    assert len({str(epoch) for epoch in expected}) > 1
    loader = keeping_loader(kind)
    list(loader)
    for epoch in (1, 2):
        if taken is None:
            assert as_lists(loader) == expected[epoch]
            loader.save(tmp_path / "x")
            loader = keeping_loader(kind)
            loader.load(tmp_path / "x", True)
            continue
        begun = handed_over(loader, taken) if taken else iter(loader)
        loader.save(tmp_path / "x")
        del begun
        loader = keeping_loader(kind)
        loader.load(tmp_path / "x", False)
        assert as_lists(loader) == expected[epoch][taken:]
    assert [as_lists(loader), as_lists(loader)] == expected[3:]


def test_a_batch_sampler_is_run_to_its_end_as_often_as_torch_does(tmp_path):
    for workers in (0, 2):
        sampler = RegeneratingBatchSampler(6, 2)
        path = saved(SaveableDataLoader(range(6), batch_size=2), tmp_path / "x", 2)
        loader = SaveableDataLoader(range(6), batch_sampler=sampler, num_workers=workers)
        loader.load(path, False)
        list(loader)
        assert sampler.rounds == 1
        list(loader)
        assert sampler.rounds == 2


def test_workers_that_persist_are_started_once(tmp_path):
    options = {"batch_size": 2, "num_workers": 2, "persistent_workers": True}
    path = saved(SaveableDataLoader(range(8), **options), tmp_path / "x", 2)
    loader = SaveableDataLoader(ProcessIds(8), **options)
    loader.load(path, False)
    epochs = [{pid for batch in as_lists(loader) for pid in batch} for _ in range(3)]
    assert [len(pids) for pids in epochs] == [2, 2, 2]
    assert epochs[0] == epochs[1] == epochs[2]


class ProcessIds(Recording):
    def __getitem__(self, index):
        return torch.utils.data.get_worker_info().id * 0 + __import__("os").getpid()


def test_other_options_reach_the_rest_of_the_epoch(tmp_path):
    path = saved(SaveableDataLoader(range(8), batch_size=2), tmp_path / "x", 1)
    loader = SaveableDataLoader(
        range(8),
        batch_size=2,
        num_workers=1,
        prefetch_factor=3,
        collate_fn=tuple,
        worker_init_fn=print,
        timeout=60,
        multiprocessing_context="fork",
    )
    loader.load(path, False)
    assert list(loader) == [(2, 3), (4, 5), (6, 7)]


def test_no_workers_are_left_when_an_iteration_is_given_up():
    loader = SaveableDataLoader(range(40), num_workers=2, batch_size=2)
    iterator = iter(loader)
    next(iterator)
    before = len(torch.multiprocessing.active_children())
    del iterator
    assert len(torch.multiprocessing.active_children()) == before - 2


class TestStateDict:
    def test_goes_on_where_the_position_is(self):
        loader = SaveableDataLoader(range(6), batch_size=2)
        assert loader.state_dict()["position"] is None
        handed_over(loader, 2)
        state = loader.state_dict()
        assert state["position"] == loader.position == 2
        again = SaveableDataLoader(range(6), batch_size=2)
        list(again)
        again.load_state_dict(state)
        assert again.position == 2
        assert as_lists(again) == [[4, 5]]
        assert len(list(again)) == 3

    def test_is_plain(self, tmp_path):
        loader = SaveableDataLoader(range(6), shuffle=True, generator=torch.Generator())
        handed_over(loader, 2)
        torch.save(loader.state_dict(), tmp_path / "state")
        assert torch.load(tmp_path / "state", weights_only=True)["position"] == 2

    @pytest.mark.parametrize("count", [3, None])
    def test_after_a_finished_epoch_comes_a_whole_one(self, count):
        loader = SaveableDataLoader(range(6), batch_size=2)
        if count is None:
            list(loader)  # asked for the end, too
        else:
            handed_over(loader, count)
        assert loader.state_dict()["finished"]
        again = SaveableDataLoader(range(6), batch_size=2)
        again.load_state_dict(loader.state_dict())
        assert len(list(again)) == 3

    def test_of_a_new_loader_changes_nothing(self):
        loader = SaveableDataLoader(range(6))
        loader.load_state_dict(SaveableDataLoader(range(6)).state_dict())
        assert loader.position is None
        assert len(list(loader)) == 6

    @pytest.mark.parametrize("state", [{}, {"position": -1}, {"position": "3"}])
    def test_refuses_anything_else(self, state):
        with pytest.raises(ValueError, match=r"give what state_dict\(\) returned"):
            SaveableDataLoader(range(6)).load_state_dict(state)


@pytest.mark.parametrize("content", ["", "-1", "two", "1.5"])
def test_a_file_of_something_else_is_named(tmp_path, content):
    path = tmp_path / "loader.ckpt"
    path.write_text(content)
    loader = SaveableDataLoader(range(4))
    with pytest.raises(ValueError, match=r"loader\.ckpt should hold the position"):
        loader.load(path, False)
    assert len(list(loader)) == 4


@pytest.mark.parametrize("keep", [0, 100, -10])
def test_a_cut_file_beside_is_named(tmp_path, keep):
    path = saved(SaveableDataLoader(range(4)), tmp_path / "loader.ckpt", 2)
    beside = tmp_path / "loader.ckpt.resume"
    beside.write_bytes(beside.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"loader\.ckpt\.resume is damaged"):
        SaveableDataLoader(range(4)).load(path, False)


def test_nothing_is_left_beside_a_file_that_says_none(tmp_path):
    path = saved(SaveableDataLoader(range(4)), tmp_path / "x", 2)
    SaveableDataLoader(range(4)).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_without_speechbrain_in_the_process(tmp_path):
    """SpeechBrain patches torch's iterators when it is imported; we must not need it."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import random, sys
            sys.path.insert(0, sys.argv[1])
            import torch
            from brain_lightning.parts.data.saveable_loader import SaveableDataLoader
            from brain_lightning.parts.data.samplers import ReproducibleRandomSampler
            from tests.parts.data.loader_scenarios import *
            for name in SCENARIOS:
                for workers in (0, 2):
                    def make():
                        arguments = SCENARIOS[name](9, 2, False, ReproducibleRandomSampler)
                        return SaveableDataLoader(range(9), num_workers=workers, **arguments)
                    seed_everything(5)
                    loader = make()
                    iterator = iter(loader)
                    for _ in range(2):
                        next(iterator)
                    loader.save(sys.argv[2])
                    state, python = torch.get_rng_state(), random.getstate()
                    expected = [as_lists(iterator), as_lists(loader), random_numbers()]
                    again = make()
                    again.load(sys.argv[2], False)
                    seed_everything(6)
                    torch.set_rng_state(state)
                    random.setstate(python)
                    found = [as_lists(again), as_lists(again), random_numbers()]
                    assert found == expected, (name, workers, found, expected)
                    assert len(found[0]) >= 3
            assert "speechbrain" not in sys.modules
            """
        )
    )
    root = __file__.rsplit("/tests/", 1)[0]
    arguments = [sys.executable, "-W", "error", script, root, tmp_path / "x.ckpt"]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("persistent", [False, True])
def test_the_next_epoch_after_a_checkpoint_at_the_end_of_one(tmp_path, persistent):
    """With what the generators then give: a worker seed is drawn once where workers persist."""

    def make():
        return SaveableDataLoader(
            range(9),
            shuffle=True,
            generator=None,
            num_workers=1,
            persistent_workers=persistent,
        )

    seed_everything(3)
    loader = make()
    list(loader)
    loader.save(tmp_path / "x")
    state = torch.get_rng_state()
    expected = [as_lists(loader), as_lists(loader), random_numbers()[:3]]
    again = make()
    again.load(tmp_path / "x", True)
    torch.set_rng_state(state)
    assert [as_lists(again), as_lists(again), random_numbers()[:3]] == expected


def test_a_generator_of_its_own_goes_on_after_the_end_of_an_epoch(tmp_path):
    def make():
        return SaveableDataLoader(
            range(9), shuffle=True, generator=torch.Generator().manual_seed(4)
        )

    loader = make()
    list(loader)
    loader.save(tmp_path / "x")
    again = make()
    again.load(tmp_path / "x", True)
    assert as_lists(again) == as_lists(loader)
