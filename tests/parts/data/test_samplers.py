"""Reproducible samplers and the share of each process, beside SpeechBrain's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from speechbrain.dataio import sampler as theirs
from torch.utils.data import BatchSampler

from brain_lightning.parts.data.samplers import (
    DistributedSamplerWrapper,
    ReproducibleRandomSampler,
    ReproducibleWeightedRandomSampler,
)


@given(
    length=st.integers(1, 80),
    seed=st.none() | st.integers(0, 2**40),
    epoch=st.integers(0, 50),
    replacement=st.booleans(),
    num_samples=st.none() | st.integers(1, 100),
)
def test_random_order_equals_speechbrain(length, seed, epoch, replacement, num_samples):
    arguments = {} if seed is None else {"seed": seed}
    arguments |= {"replacement": replacement, "num_samples": num_samples}
    ours = ReproducibleRandomSampler(range(length), **arguments)
    expected = theirs.ReproducibleRandomSampler(range(length), **arguments)
    assert list(ours) == list(expected)
    ours.set_epoch(epoch)
    expected.set_epoch(epoch)
    assert list(ours) == list(expected) == list(ours)
    assert len(ours) == len(expected)


@given(
    weights=st.lists(st.floats(0.01, 5), min_size=3, max_size=30),
    epoch=st.integers(0, 50),
    seed=st.none() | st.integers(0, 2**40),
)
def test_weighted_order_equals_speechbrain(weights, epoch, seed):
    arguments = {} if seed is None else {"seed": seed}
    for replacement in (True, False):
        given_values = (weights, 3, replacement)
        ours = ReproducibleWeightedRandomSampler(*given_values, epoch=epoch, **arguments)
        expected = theirs.ReproducibleWeightedRandomSampler(*given_values, epoch=epoch, **arguments)
        assert list(ours) == list(expected)
        ours.set_epoch(epoch + 1)
        expected.set_epoch(epoch + 1)
        assert list(ours) == list(expected)


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    list(ReproducibleRandomSampler(range(10)))
    list(ReproducibleWeightedRandomSampler([1.0, 2.0], 2, True))
    assert torch.equal(torch.get_rng_state(), before)


def test_epochs_differ():
    sampler = ReproducibleRandomSampler(range(50))
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first


@pytest.mark.parametrize(
    "make",
    [
        lambda: ReproducibleRandomSampler(range(3), generator=torch.Generator()),
        lambda: ReproducibleWeightedRandomSampler([1.0], 1, True, generator=torch.Generator()),
    ],
)
def test_a_generator_is_refused(make):
    with pytest.raises(ValueError, match="give a seed instead"):
        make()


@given(
    length=st.integers(8, 60),
    replicas=st.integers(1, 4),
    epoch=st.integers(0, 9),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    batched=st.booleans(),
)
def test_shares_equal_speechbrain(length, replicas, epoch, shuffle, drop_last, batched):
    def share(wrapper, random_sampler, rank):
        sampler = random_sampler(range(length))
        inner = BatchSampler(sampler, 1, False) if batched else sampler
        wrapped = wrapper(
            inner, num_replicas=replicas, rank=rank, shuffle=shuffle, drop_last=drop_last
        )
        wrapped.set_epoch(epoch)
        assert not hasattr(inner, "epoch") or inner.epoch == epoch
        return len(wrapped), list(wrapped)

    for rank in range(replicas):
        ours = share(DistributedSamplerWrapper, ReproducibleRandomSampler, rank)
        expected = share(theirs.DistributedSamplerWrapper, theirs.ReproducibleRandomSampler, rank)
        assert ours == expected


def test_a_share_of_one_batch_is_one_batch():
    # SpeechBrain takes the batch apart here and yields its indices.
    batches = [[0, 1], [2, 3]]
    share = DistributedSamplerWrapper(batches, num_replicas=2, rank=0, shuffle=False)
    assert list(share) == [[0, 1]]
    broken = theirs.DistributedSamplerWrapper(batches, num_replicas=2, rank=0, shuffle=False)
    assert list(broken) == [0, 1]


def test_a_sampler_that_grows_is_shared_out_whole():
    batches = [[0], [1]]
    shares = [
        DistributedSamplerWrapper(batches, num_replicas=2, rank=rank, shuffle=False)
        for rank in range(2)
    ]
    batches.extend([[2], [3], [4]])
    assert [list(share) for share in shares] == [[[0], [2], [4]], [[1], [3], [0]]]
    assert [len(share) for share in shares] == [3, 3]
