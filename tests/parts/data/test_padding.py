"""Padding, beside SpeechBrain's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from speechbrain.utils import data_utils as theirs

from brain_lightning.parts.data.padding import PaddingError, batch_pad_right, pad_right_to

lengths = st.lists(st.integers(0, 7), min_size=1, max_size=5)


@given(
    lengths=lengths.filter(lambda sizes: len(sizes) == 1 or max(sizes) > 0),
    rest=st.lists(st.integers(1, 3), max_size=2),
    value=st.sampled_from([0, -100, 0.5]),
)
def test_batch_pad_right_equals_speechbrain(lengths, rest, value):
    tensors = [torch.rand(length, *rest) for length in lengths]
    ours, our_lengths = batch_pad_right(tensors, value=value)
    expected, their_lengths = theirs.batch_pad_right(tensors, value=value)
    assert torch.equal(ours, expected)
    assert torch.equal(our_lengths, their_lengths)
    assert our_lengths.dtype == their_lengths.dtype


@pytest.mark.parametrize("mode", ["replicate", "reflect"])
def test_other_modes_reach_torch_as_in_speechbrain(mode):
    tensors = [torch.rand(4, 3), torch.rand(6, 3)]
    for function in (batch_pad_right, theirs.batch_pad_right):
        with pytest.raises(NotImplementedError):  # torch's, for this number of dimensions
            function(tensors, mode=mode)


@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), data=st.data())
def test_pad_right_to_equals_speechbrain(shape, data):
    target = [size + data.draw(st.integers(0, 3)) for size in shape]
    tensor = torch.rand(*shape)
    ours, our_parts = pad_right_to(tensor, target, value=7)
    expected, their_parts = theirs.pad_right_to(tensor, target, value=7)
    assert torch.equal(ours, expected)
    assert our_parts == their_parts


def test_empty_tensors_have_no_padding():
    batch, lengths = batch_pad_right([torch.rand(0, 2), torch.rand(0, 2)])
    assert batch.shape == (2, 0, 2)
    assert lengths.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ([], "There are no tensors to pad"),
        ([torch.rand(2), torch.rand(2, 2)], r"shapes are \(2,\), \(2, 2\)"),
        ([torch.rand(2, 3), torch.rand(2, 4)], r"shapes are \(2, 3\), \(2, 4\)"),
        ([torch.tensor(1), torch.tensor(2)], r"torch.tensor\(\[3\]\)"),
    ],
)
def test_refusals_are_also_speechbrains_errors(tensors, sentence):
    with pytest.raises(PaddingError, match=sentence) as ours:
        batch_pad_right(tensors)
    with pytest.raises((IndexError, OSError)) as expected:
        theirs.batch_pad_right(tensors)
    assert isinstance(ours.value, expected.type)
    assert isinstance(ours.value, ValueError)


@pytest.mark.parametrize("target", [(1, 3), (2,), (2, 3, 1)])
def test_a_target_that_does_not_fit_is_refused(target):
    with pytest.raises(PaddingError, match=r"A tensor of shape \(2, 3\) cannot be padded to"):
        pad_right_to(torch.rand(2, 3), target)
