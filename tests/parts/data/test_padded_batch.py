"""PaddedBatch and the stacking of what is not padded, beside SpeechBrain's."""

import pickle

import numpy as np
import pytest
import torch
from speechbrain.dataio.batch import PaddedBatch as TheirBatch
from speechbrain.utils.data_utils import mod_default_collate
from torch.utils.data import DataLoader

from brain_lightning.parts.data.collation import stack_if_possible
from brain_lightning.parts.data.padded_batch import PaddedBatch, PaddedData


def assert_same(ours, expected):
    """Equal in kind, type and value, through containers."""
    if isinstance(expected, torch.Tensor):
        assert isinstance(ours, torch.Tensor)
        assert ours.dtype == expected.dtype
        assert torch.equal(ours, expected)
    elif isinstance(expected, tuple) and hasattr(expected, "_fields"):
        assert ours._fields == expected._fields
        assert_same(list(ours), list(expected))
    elif isinstance(expected, np.ndarray):
        assert isinstance(ours, np.ndarray)
        np.testing.assert_array_equal(ours, expected)
    elif isinstance(expected, (list, tuple)):
        assert type(ours) is type(expected)
        assert len(ours) == len(expected)
        for our_part, their_part in zip(ours, expected, strict=True):
            assert_same(our_part, their_part)
    elif isinstance(expected, dict):
        assert list(ours) == list(expected)
        assert_same(list(ours.values()), list(expected.values()))
    else:
        assert type(ours) is type(expected)
        assert ours == expected


EXAMPLES = [
    {
        "id": f"ex{length}",
        "sig": torch.arange(float(length)),
        "feats": np.ones((length, 2), dtype=np.float32),
        "tokens": torch.arange(length),
        "speaker": length,
        "gain": length / 3,
        "flag": length > 2,
        "words": ["a"] * length,
        "scalars": np.float64(length),
        "nested": {"x": torch.ones(2), "y": "text"},
        "nothing": None,
    }
    for length in (3, 1, 2)
]
ARGUMENTS = {
    "default": {},
    "padded_keys": {"padded_keys": ["sig"]},
    "device_prep_keys": {"device_prep_keys": ["sig", "speaker"]},
    "padding_kwargs": {"padding_kwargs": {"value": -1}},
    "per_key": {"padding_kwargs": {"value": -1}, "per_key_padding_kwargs": {"sig": {"value": 9}}},
    "no_convert": {"apply_default_convert": False},
    "no_stack": {"nonpadded_stack": False},
    "padding_func": {"padding_func": lambda values, **kwargs: (values, len(values))},
}


def without_scalars(examples):
    return [{key: ex[key] for key in ex if key != "scalars"} for ex in examples]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_values_equal_speechbrain(name):
    arguments = ARGUMENTS[name]
    examples = without_scalars(EXAMPLES)
    ours, expected = PaddedBatch(examples, **arguments), TheirBatch(examples, **arguments)
    assert len(ours) == len(expected) == 3
    assert ours.batchsize == expected.batchsize
    for key in examples[0]:
        assert_same(getattr(ours, key), getattr(expected, key))
        assert_same(ours[key], expected[key])
    assert_same(list(ours), list(expected))
    assert_same(ours.at_position(1), expected.at_position(1))


@pytest.mark.parametrize("name", ARGUMENTS)
def test_to_moves_what_speechbrain_moves(name):
    arguments = ARGUMENTS[name]
    examples = without_scalars(EXAMPLES)
    ours, expected = PaddedBatch(examples, **arguments), TheirBatch(examples, **arguments)
    assert ours.to(dtype=torch.half) is ours
    expected.to(dtype=torch.half)
    for key in examples[0]:
        assert_same(ours[key], expected[key])
    assert_same(ours["id"], ["ex3", "ex1", "ex2"])


def test_to_reaches_a_nested_tensor_and_leaves_its_text_alone():
    # SpeechBrain goes into the letters of the text without an end here.
    batch = PaddedBatch([EXAMPLES[0]], device_prep_keys=["nested", "words"])
    batch.to(dtype=torch.half)
    assert batch.nested[0]["x"].dtype == torch.half
    assert batch.nested[0]["y"] == "text"
    assert batch.words == [["a", "a", "a"]]


def test_a_single_key_of_numpy_numbers_equals_speechbrain_when_not_padded():
    examples = [{"n": np.float64(2.0)}, {"n": np.float64(3.0)}]
    arguments = {"padded_keys": []}
    assert_same(PaddedBatch(examples, **arguments).n, TheirBatch(examples, **arguments).n)


@pytest.mark.parametrize(
    "values",
    [
        [torch.ones(2), torch.zeros(2)],
        [torch.ones(2), torch.zeros(3)],
        [np.ones(2), np.zeros(2)],
        [np.ones(2), np.zeros(3)],
        [np.array(["a", "b"]), np.array(["c", "d"])],
        [np.float32(1), np.float32(2)],
        [np.int64(1), np.int64(2)],
        [1, 2],
        [True, False],
        [1.5, 2],
        [1, 2.5],
        ["a", "b"],
        [b"a", b"b"],
        [None, None],
        [[1], [2, 3]],
        [{"a": 1}],
        [np.str_("a"), np.str_("b")],
    ],
    ids=repr,
)
def test_stacking_equals_speechbrain(values):
    assert_same(stack_if_possible(values), mod_default_collate(values))


def test_values_that_do_not_go_together_stay_a_list():
    with pytest.raises(TypeError):
        mod_default_collate([1, [2]])
    assert stack_if_possible([1, [2]]) == [1, [2]]


def test_pinning_goes_through_containers(monkeypatch):
    pinned = []

    def pin_memory(tensor):
        pinned.append(tuple(tensor.shape))
        return tensor + 1

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    batch = PaddedBatch(
        [{"sig": torch.zeros(2), "id": "a", "more": {"x": torch.zeros(5)}}] * 2,
        device_prep_keys=["sig", "more"],
    )
    assert batch.pin_memory() is batch
    assert pinned == [(2, 2), (2,), (5,), (5,)]
    assert batch.sig.data.tolist() == [[1, 1], [1, 1]]
    assert isinstance(batch.sig, PaddedData)
    assert batch.more[1]["x"].tolist() == [1] * 5


def test_pickling_keeps_everything():
    batch = pickle.loads(pickle.dumps(PaddedBatch(without_scalars(EXAMPLES))))
    assert_same(list(batch), list(PaddedBatch(without_scalars(EXAMPLES))))


def test_batches_come_through_workers():
    examples = without_scalars(EXAMPLES)
    loader = DataLoader(examples, batch_size=3, collate_fn=PaddedBatch, num_workers=1)
    (batch,) = loader
    assert_same(list(batch), list(TheirBatch(examples)))


def test_refusals():
    with pytest.raises(ValueError, match="at least one example"):
        PaddedBatch([])
    with pytest.raises(TypeError, match="examples that are dicts, but was given Tensor"):
        PaddedBatch([torch.ones(1)])
    with pytest.raises(ValueError, match="Example 1 of the batch has no 'b'"):
        PaddedBatch([{"a": 1, "b": 2}, {"a": 1}])
    with pytest.raises(KeyError, match="no key 'batchsize'"):
        PaddedBatch([{"a": 1}])["batchsize"]
