"""Any data, any sampler, any cut: what is resumed is what would have followed."""

import random
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from speechbrain.dataio.dataloader import SaveableDataLoader as TheirLoader
from speechbrain.dataio.sampler import ReproducibleRandomSampler as TheirSampler

from brain_lightning.parts.data.samplers import ReproducibleRandomSampler
from brain_lightning.parts.data.saveable_loader import SaveableDataLoader
from tests.parts.data.loader_scenarios import (
    SCENARIOS,
    Recording,
    as_lists,
    random_numbers,
    seed_everything,
)

CLASSES = {
    "ours": (SaveableDataLoader, ReproducibleRandomSampler),
    "theirs": (TheirLoader, TheirSampler),
}

cases = st.fixed_dictionaries(
    {
        "name": st.sampled_from(sorted(SCENARIOS)),
        "length": st.integers(1, 40),
        "batch_size": st.integers(1, 7),
        "drop_last": st.booleans(),
        "seed": st.integers(0, 9999),
    }
)
cuts = st.floats(0, 1)


def make(library, case, **options):
    loader_class, sampler_class = CLASSES[library]
    arguments = SCENARIOS[case["name"]](
        case["length"], case["batch_size"], case["drop_last"], sampler_class
    )
    return loader_class(Recording(case["length"]), **arguments, **options)


def train(iterator, count=None):
    """Take batches and draw from the generators in between, as dropout does."""
    batches, drawn = [], []
    while count is None or len(batches) < count:
        batch = next(iterator, None)
        if batch is None:
            break
        batches.append(batch)
        drawn += random_numbers()
    return as_lists(batches), drawn


def save(loader, path):
    method = loader.save if isinstance(loader, SaveableDataLoader) else loader._speechbrain_save
    method(path)


def load(loader, path):
    method = loader.load if isinstance(loader, SaveableDataLoader) else loader._speechbrain_load
    method(path, False)


def whole_epochs(library, case, epochs=2, **options):
    seed_everything(case["seed"])
    loader = make(library, case, **options)
    return [train(iter(loader)) for _ in range(epochs)]


def check_uninterrupted(case, **options):
    assert whole_epochs("ours", case, **options) == whole_epochs("theirs", case, **options)


def check_resumed_as_speechbrain(case, cut, writer, **options):
    """From a file of SpeechBrain's form alone, both loaders go on in the same way."""
    found = {}
    for reader in CLASSES:
        with tempfile.TemporaryDirectory() as folder:
            seed_everything(case["seed"])
            loader = make(writer, case, **options)
            count = round(cut * len(loader))
            train(iter(loader), count)
            save(loader, Path(folder) / "x")
            (Path(folder) / "x.resume").unlink(missing_ok=True)
            again = make(reader, case, **options)
            load(again, Path(folder) / "x")
            seed_everything(case["seed"] + 1)
            found[reader] = [train(iter(again)), train(iter(again)), again.dataset.loaded]
    assert found["ours"] == found["theirs"]


def check_exact(case, cut, second_cut, **options):
    """Interrupted twice in an epoch: batches, generators and the next epoch as if never."""
    seed_everything(case["seed"])
    loader = make("ours", case, **options)
    iterator = iter(loader)
    count = round(cut * len(loader))
    train(iterator, count)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        states = save_with_random_states(loader, path)
        between = train(iterator, round(second_cut * (len(loader) - count)))
        expected = [between, train(iterator), train(iter(loader))]

        loader = resumed(case, path, states, **options)
        iterator = iter(loader)
        between = train(iterator, round(second_cut * (len(loader) - count)))
        states = save_with_random_states(loader, path)
        del iterator

        loader = resumed(case, path, states, **options)
        assert [between, train(iter(loader)), train(iter(loader))] == expected
    if not options:  # with workers the data is loaded elsewhere
        remaining = sum(map(size_of, expected[1][0])) + sum(map(size_of, expected[2][0]))
        assert len(loader.dataset.loaded) == remaining


def size_of(batch):
    return len(batch) if isinstance(batch, list) else 1


def save_with_random_states(loader, path):
    save(loader, path)
    return torch.get_rng_state(), random.getstate()


def resumed(case, path, states, **options):
    loader = make("ours", case, **options)
    load(loader, path)
    seed_everything(12345)
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    return loader


@given(cases)
@settings(deadline=None)
def test_uninterrupted_as_speechbrain(case):
    check_uninterrupted(case)


@given(cases, cuts, st.sampled_from(sorted(CLASSES)))
@settings(deadline=None)
def test_resumed_as_speechbrain(case, cut, writer):
    check_resumed_as_speechbrain(case, cut, writer)


@given(cases, cuts, cuts)
@settings(deadline=None, max_examples=80)
def test_exact(case, cut, second_cut):
    check_exact(case, cut, second_cut)


with_workers = settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.too_slow])
long_with_workers = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow]
)


# With workers, indices are drawn ahead of training: where a sampler draws them one by one, from the
# generator that training draws from as well, the order depends on both (compatibility page).
cases_with_workers = cases.filter(lambda case: case["name"] != "one by one")


@given(case=cases_with_workers, cut=cuts, second_cut=cuts, persistent=st.booleans())
@with_workers
def test_with_workers(case, cut, second_cut, persistent):
    options = {"num_workers": 2, "persistent_workers": persistent}
    check_uninterrupted(case, **options)
    check_resumed_as_speechbrain(case, cut, "ours", **options)
    check_exact(case, cut, second_cut, **options)


@pytest.mark.long
@pytest.mark.timeout(3600)
@given(case=cases_with_workers, cut=cuts, second_cut=cuts, persistent=st.booleans())
@long_with_workers
def test_with_workers_in_the_long_form(case, cut, second_cut, persistent):
    test_with_workers.hypothesis.inner_test(case, cut, second_cut, persistent)
