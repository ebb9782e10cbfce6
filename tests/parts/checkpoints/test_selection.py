"""Which checkpoints are found and kept, for any metas and arguments, as by SpeechBrain."""

import math
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from speechbrain.utils.checkpoints import Checkpointer as TheirCheckpointer

from brain_lightning.parts.checkpoints.checkpoint import Checkpoint
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.selection import choose_deletions, rank_checkpoints

KEYS = ["WER", "acc"]
values = st.integers(-2, 2) | st.floats(-1e3, 1e3).map(lambda value: round(value, 1))
metas = st.dictionaries(st.sampled_from(KEYS), values)
# Times are different: among checkpoints of one moment SpeechBrain's choice depends on the disk.
folders = st.lists(st.tuples(st.integers(0, 10_000), metas), max_size=6, unique_by=lambda m: m[0])


def importance(checkpoint):
    return checkpoint.meta.get("acc", 0)


def predicate(checkpoint):
    return checkpoint.meta.get("WER", 1) > 0


choices = st.fixed_dictionaries(
    {},
    optional={
        "ckpt_predicate": st.sampled_from([None, predicate]),
        "max_num_checkpoints": st.none() | st.integers(0, 7),
    },
).flatmap(
    lambda choice: st.sampled_from(
        [{}, {"max_key": "acc"}, {"min_key": "WER"}, {"importance_key": importance}]
    ).map(lambda key: choice | key)
)
keeping = st.fixed_dictionaries(
    {"num_to_keep": st.integers(0, 3)},
    optional={
        "min_keys": st.none() | st.lists(st.sampled_from(KEYS), max_size=2),
        "max_keys": st.none() | st.lists(st.sampled_from(KEYS), max_size=2),
        "importance_keys": st.lists(st.just(importance), max_size=1),
        "ckpt_predicate": st.sampled_from([None, predicate]),
    },
)


def write(folder: Path, saved) -> None:
    for number, (unixtime, meta) in enumerate(saved):
        path = folder / f"CKPT+{number}"
        path.mkdir(parents=True)
        text = yaml.dump({"unixtime": unixtime, "end-of-epoch": True, **meta})
        (path / "CKPT.yaml").write_text(text)


@settings(deadline=None, max_examples=100)
@given(folders, choices)
def test_the_same_are_found(saved, choice):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), saved)
        expected = TheirCheckpointer(folder).find_checkpoints(**choice)
        assert Checkpointer(folder).find_checkpoints(**choice) == expected


@settings(deadline=None, max_examples=100)
@given(folders, keeping)
def test_the_same_are_kept(saved, arguments):
    kept = []
    for library in (TheirCheckpointer, Checkpointer):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), saved)
            library(folder).delete_checkpoints(**arguments)
            kept.append(sorted(path.name for path in Path(folder).iterdir()))
    assert kept[0] == kept[1]


def checkpoint(name, **meta):
    return Checkpoint(Path(name), {"unixtime": 0, **meta}, {})


@pytest.mark.parametrize("key", ["min_key", "max_key"])
def test_not_a_number_is_never_the_best(key):
    good, bad = checkpoint("good", WER=3.0), checkpoint("bad", WER=math.nan, unixtime=9)
    assert rank_checkpoints([bad, good], **{key: "WER"}) == [good, bad]
    arguments = {"min_keys": ["WER"], "max_keys": ["WER"], "importance_keys": []}
    assert choose_deletions([bad, good], 1, ckpt_predicate=None, **arguments) == [bad]


def test_a_value_that_cannot_be_compared_is_named():
    with pytest.raises(ValueError, match=r"checkpoint here has WER='low'.*need a number"):
        rank_checkpoints([checkpoint("here", WER="low")], min_key="WER")


def test_deletions_come_oldest_first():
    saved = [checkpoint(str(time), unixtime=time) for time in (5, 1, 4, 2)]
    deletions = choose_deletions(saved, 1, [lambda c: c.meta["unixtime"]], [], [], None)
    assert [chosen.meta["unixtime"] for chosen in deletions] == [1, 2, 4]
