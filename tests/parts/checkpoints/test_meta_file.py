"""What the meta file of a checkpoint can hold."""

import enum
from datetime import date
from pathlib import Path

import numpy
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from brain_lightning.parts.checkpoints.errors import DamagedCheckpointError
from brain_lightning.parts.checkpoints.meta_file import FIRST_LINE, meta_text, plain_meta, read_meta


class Stage(enum.IntEnum):
    TEST = 3


@pytest.mark.parametrize(
    ("given_value", "kept"),
    [
        (numpy.float64(1.5), 1.5),
        (numpy.float32(0.5), 0.5),
        (numpy.int64(3), 3),
        (numpy.bool_(True), True),
        (numpy.str_("a"), "a"),
        (numpy.array([1, 2]), [1, 2]),
        (torch.tensor(2.5), 2.5),
        (torch.tensor([[1, 2]]), [[1, 2]]),
        (Stage.TEST, 3),
        ((1, (2, 3)), [1, [2, 3]]),
        (Path("a/b"), "a/b"),
        ({"x": {1: numpy.float64(2)}}, {"x": {1: 2.0}}),
        (date(2026, 1, 2), date(2026, 1, 2)),
        (None, None),
        (True, True),
    ],
)
def test_values_are_kept_as_plain_ones(given_value, kept):
    meta = plain_meta({"key": given_value, "unixtime": 1})
    assert meta["key"] == kept
    assert type(meta["key"]) is type(kept)
    assert yaml.safe_load(meta_text(meta)) == meta


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(), plain))
def test_plain_values_give_the_text_that_speechbrain_writes(meta):
    meta = {"unixtime": 1.5, "end-of-epoch": True} | meta | {"unixtime": 2.5}
    assert plain_meta(meta) == meta
    assert meta_text(meta) == FIRST_LINE + yaml.dump(meta)


@pytest.mark.parametrize("value", [object(), lambda: 0, {"deep": [object()]}, 1j, torch.nn.ReLU()])
def test_other_values_are_refused_by_their_key(value):
    with pytest.raises(TypeError, match=r"meta\['stats'\].*cannot hold"):
        plain_meta({"stats": value})


def test_a_time_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match=r"meta\['unixtime'\].*'now'"):
        meta_text({"unixtime": "now"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "cannot be read: while parsing"),
        ("", "holds no mapping but None"),
        ("- 1", "holds no mapping"),
        ("a: 1", "does not say its unixtime"),
        ("unixtime: x", "does not say its unixtime"),
        ("!!python/object:os.system {}", "cannot be read"),
    ],
)
def test_a_meta_file_that_is_none_is_named(tmp_path, text, said):
    path = tmp_path / "CKPT.yaml"
    path.write_text(text)
    with pytest.raises(DamagedCheckpointError, match=rf"CKPT\.yaml {said}"):
        read_meta(path)
    with pytest.raises(DamagedCheckpointError, match="cannot be read"):
        read_meta(tmp_path / "missing.yaml")
