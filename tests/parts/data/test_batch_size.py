"""BatchsizeGuesser, beside SpeechBrain's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from speechbrain.dataio.batch import BatchsizeGuesser as TheirGuesser
from speechbrain.dataio.batch import PaddedBatch as TheirBatch

from brain_lightning.parts.data.batch_size import BatchsizeGuesser
from brain_lightning.parts.data.padded_batch import PaddedBatch

BATCHES = [
    torch.rand(4, 2),
    torch.tensor(1.0),
    [torch.rand(3, 2), torch.rand(3)],
    (torch.rand(5),),
    PaddedBatch([{"a": 1}] * 6),
    TheirBatch([{"a": 1}] * 7),
    {"signal": torch.rand(8, 2)},
    {0: "four"},
    [],
    "text",
    17,
    None,
    {torch.rand(2)},
]


@given(st.lists(st.sampled_from(range(len(BATCHES))), min_size=1, max_size=6))
def test_equals_speechbrain_for_any_sequence_of_batches(choice):
    ours, theirs = BatchsizeGuesser(), TheirGuesser()
    batches = [BATCHES[number] for number in choice]
    assert [ours(batch) for batch in batches] == [theirs(batch) for batch in batches]


@pytest.mark.parametrize("number", range(len(BATCHES)))
def test_the_method_that_suits_is_the_same(number):
    ours, theirs = BatchsizeGuesser(), TheirGuesser()
    batch = BATCHES[number]

    assert ours.find_suitable_method(batch) == theirs.find_suitable_method(batch)
    assert getattr(ours.method, "__name__", None) == getattr(theirs.method, "__name__", None)


def test_a_padded_batch_knows_its_size():
    assert BatchsizeGuesser()(PaddedBatch([{"a": 1}] * 6)) == 6
