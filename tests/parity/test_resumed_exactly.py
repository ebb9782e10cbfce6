"""A run that is interrupted, once or several times, ends with the weights of one that was not."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping

from brain_lightning.engine.trainer.progress_bar import StageBar

from . import interrupted_runs
from .interrupted_runs import (
    CALLS,
    EPOCHS,
    TRAIN_BATCHES,
    Setting,
    calls_of_a_whole_run,
    killed_while_writing,
    new_process,
    run,
    same,
)

# torch says so of a scheduler that is stepped in a process where its optimizer has not stepped yet.
pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")


def of_the_long_form(*cuts: int) -> list[Any]:
    """Interruptions, one each, that repeat what others show."""
    return [pytest.param((cut,), marks=pytest.mark.long) for cut in cuts]


SETTINGS = {
    "plain": Setting({"ckpt_interval_steps": 1}),
    "every third batch": Setting({"ckpt_interval_steps": 3}),
    "end of epoch only": Setting({"ckpt_interval_minutes": 0}),
    "accumulation": Setting({"ckpt_interval_steps": 1, "grad_accumulation_factor": 3}),
    "bf16": Setting({"ckpt_interval_steps": 2, "precision": "bf16"}),
    "not beside": Setting({"ckpt_interval_steps": 2, "async_checkpoint": False}),
    "workers": Setting({"ckpt_interval_steps": 2}, {"num_workers": 2}),
    "workers that persist": Setting(
        {"ckpt_interval_steps": 1}, {"num_workers": 2, "persistent_workers": True}
    ),
    "limited": Setting({"ckpt_interval_steps": 1}, trainer={"limit_train_batches": 4}),
    "drop last": Setting({"ckpt_interval_steps": 2}, {"drop_last": True}),
    "looped loader": Setting({"ckpt_interval_steps": 1}, data="looped"),
    # The seventh batch accumulates for a frozen optimizer, whose gradients nobody zeroes.
    "left over gradients": Setting({"grad_accumulation_factor": 2, "ckpt_interval_minutes": 0}),
    "ready loader": Setting({"ckpt_interval_steps": 1}, data="ready loader"),
    "turning loader": Setting({"ckpt_interval_steps": 2}, data="turning loader"),
    "list": Setting({"ckpt_interval_steps": 1}, data="list"),
    "batch sampler": Setting({"ckpt_interval_steps": 1}, data="batch sampler"),
    "sampler": Setting({"ckpt_interval_steps": 1}, data="sampler"),
    "validation by steps": Setting(
        {"ckpt_interval_steps": 1, "val_interval_steps": 4}, validates_in_epochs=True
    ),
    "stream": Setting({"ckpt_interval_steps": 1}, data="stream"),
    "stream, validation by steps": Setting(
        {"ckpt_interval_steps": 1, "val_interval_steps": 3},
        data="stream",
        validates_in_epochs=True,
    ),
    "stream, saved in validation": Setting(
        {"ckpt_interval_minutes": 0, "val_interval_steps": 3},
        data="stream",
        validates_in_epochs=True,
    ),
    # After the third and the sixth of seven batches.
    "validation by a share": Setting(
        {"ckpt_interval_steps": 1},
        validates_in_epochs=True,
        trainer={"val_check_interval": 0.5},
    ),
    # After the seventh, at the epoch's end.
    "validation by batches": Setting(
        {"ckpt_interval_steps": 1},
        validates_in_epochs=True,
        trainer={"val_check_interval": 7},
    ),
    "stream, validation by batches": Setting(
        {"ckpt_interval_minutes": 0},
        data="stream",
        validates_in_epochs=True,
        trainer={"val_check_interval": 2},
    ),
}


@functools.cache
def reference(name: str, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    result = run(folder, SETTINGS[name], None)
    assert result is not None
    return result


def interrupted(name: str, folder: Path, cuts: tuple[int, ...]) -> dict[str, Any]:
    return interrupted_runs.interrupted(SETTINGS[name], folder, cuts)


@pytest.fixture(scope="module")
def reference_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reference")


SHORT_CUTS = [(1,), (4,), (8,), (9,), (10,), (15,), (27,), (5, 3), (8, 8), (2, 2, 2), (12, 1, 9)]


@pytest.mark.parametrize(
    ("name", "cuts"),
    [
        *(("plain", cuts) for cuts in SHORT_CUTS),
        # All of them are in the matrix of the long form.
        *((name, cuts) for name in ("accumulation", "bf16") for cuts in SHORT_CUTS[1::3]),
    ],
    ids=str,
)
def test_same_end(name: str, cuts: tuple[int, ...], tmp_path: Path, reference_folder: Path) -> None:
    expected = reference(name, reference_folder / name.replace(" ", "_"))
    assert same(interrupted(name, tmp_path, cuts), expected)


@pytest.mark.parametrize(
    "name", ["every third batch", "end of epoch only", "not beside", "left over gradients"]
)
def test_same_end_from_an_older_checkpoint(
    name: str, tmp_path: Path, reference_folder: Path
) -> None:
    expected = reference(name, reference_folder / name.replace(" ", "_"))
    assert same(interrupted(name, tmp_path, (6, 5, 12)), expected)


@pytest.mark.parametrize(
    ("name", "cuts"),
    [
        ("workers", (5,)),
        ("workers", (4, 3)),
        # torch waits for them when an interrupted loader is collected as garbage.
        pytest.param("workers that persist", (10, 5), marks=pytest.mark.long),
    ],
    ids=str,
)
def test_same_end_with_workers(
    name: str, cuts: tuple[int, ...], tmp_path: Path, reference_folder: Path
) -> None:
    expected = reference(name, reference_folder / name.replace(" ", "_"))
    assert same(interrupted(name, tmp_path, cuts), expected)


ONCE = [(cut,) for cut in range(1, CALLS + 1)]
TWICE = [(cut, again) for cut in range(1, CALLS, 4) for again in (1, 2, 3, 7, 8, 9)]
THRICE = [(cut, 2, 3) for cut in range(1, CALLS, 5)]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SETTINGS)
def test_every_cut(name: str, tmp_path: Path, reference_folder: Path) -> None:
    """The whole matrix: once at any batch, twice and three times at many."""
    expected = reference(name, reference_folder / name.replace(" ", "_"))
    cuts = ONCE + TWICE + THRICE if not name.startswith("workers") else ONCE[::3] + TWICE[::5]
    failed = [
        each for each in cuts if not same(interrupted(name, tmp_path / str(each), each), expected)
    ]
    assert not failed, f"{len(failed)} of {len(cuts)}"


def test_the_test_can_fail(tmp_path: Path, reference_folder: Path) -> None:
    """Without the files that SpeechBrain's format has no place for, a resume is not exact."""
    expected = reference("plain", reference_folder / "plain")
    assert run(tmp_path, SETTINGS["plain"], 4) is None
    new_process()
    for path in (tmp_path / "save").glob("*/*"):
        if path.name in ("brain.ckpt.resume", "checksums.json"):
            path.unlink()
    assert not same(run(tmp_path, SETTINGS["plain"], None), expected)


def test_same_end_behind_a_process_that_was_forked(tmp_path: Path, reference_folder: Path) -> None:
    """It has the memory of the process that goes on, and was interrupted all the same."""
    expected = reference("plain", reference_folder / "plain")
    child = os.fork()
    if not child:
        status = 1
        try:
            status = int(run(tmp_path, SETTINGS["plain"], 4) is not None)
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    new_process()
    assert same(run(tmp_path, SETTINGS["plain"], None), expected)


def test_what_comes_behind_a_finished_run_draws_what_it_would_have(tmp_path: Path) -> None:
    """A process that is killed behind its last save may have another fit() to begin."""
    assert run(tmp_path, SETTINGS["end of epoch only"], None) is not None
    expected = torch.rand(3)
    new_process()
    assert run(tmp_path, SETTINGS["end of epoch only"], None) is not None
    assert torch.equal(torch.rand(3), expected)


# Four and five are before the first validation and in it, nine and ten are around the end of the
# epoch; the validation behind the last batch of an epoch is the seventh.
@pytest.mark.parametrize("cuts", [(5,), (7,), (6, 6, 6), *of_the_long_form(4, 6, 10)], ids=str)
def test_same_end_with_validation_by_steps(
    cuts: tuple[int, ...], tmp_path: Path, reference_folder: Path
) -> None:
    name = "validation by steps"
    expected = reference(name, reference_folder / name.replace(" ", "_"))
    assert same(interrupted(name, tmp_path, cuts), expected)


# Three and six are in front of a validation, four and eight in one; seven ends an epoch in the one
# way, and is followed by a validation in the other.
@pytest.mark.parametrize("cuts", [(7,), (3, 2), *of_the_long_form(4, 5, 8)], ids=str)
@pytest.mark.parametrize("name", ["validation by a share", "validation by batches"])
def test_same_end_with_validation_in_the_epoch(
    name: str, cuts: tuple[int, ...], tmp_path: Path, reference_folder: Path
) -> None:
    expected = reference(name, reference_folder / name.replace(" ", "_"))
    assert same(interrupted(name, tmp_path, cuts), expected)


# A stream is asked for its next batch before the validation begins, to know whether there is one.
# Three is saved before a validation and six in one, nine is behind it; twelve is the epoch's end.
@pytest.mark.parametrize("cuts", [(12,), (6, 2, 6), *of_the_long_form(4, 5, 6, 9, 13)], ids=str)
@pytest.mark.parametrize("when", ["validation by steps", "saved in validation"])
def test_same_end_with_validation_in_the_middle_of_a_stream(
    when: str, cuts: tuple[int, ...], tmp_path: Path, reference_folder: Path
) -> None:
    name = f"stream, {when}"
    expected = reference(name, reference_folder / name.replace(" ", "_"))
    assert same(interrupted(name, tmp_path, cuts), expected)


# -- other loaders -----------------------------------------------------------------------------

LOADERS = ["looped loader", "batch sampler", "sampler", "stream"]


# Eight and ten are in validation, and where the looped loader starts its inner loader again.
@pytest.mark.parametrize("cuts", [(8,), (11, 2), *of_the_long_form(10)], ids=str)
@pytest.mark.parametrize("name", LOADERS)
def test_same_end_with_other_loaders(
    name: str, cuts: tuple[int, ...], tmp_path: Path, reference_folder: Path
) -> None:
    expected = reference(name, reference_folder / name.replace(" ", "_"))
    assert same(interrupted(name, tmp_path, cuts), expected)


# Six batches an epoch: in its validation, and in the next epoch.
@pytest.mark.parametrize("cuts", [(5,), (16, 3), *of_the_long_form(2, 6)], ids=str)
def test_same_end_with_fewer_batches_an_epoch(
    cuts: tuple[int, ...], tmp_path: Path, reference_folder: Path
) -> None:
    expected = reference("limited", reference_folder / "limited")
    assert same(interrupted("limited", tmp_path, cuts), expected)


@pytest.mark.parametrize("name", interrupted_runs.READY_MADE)
def test_same_end_with_batches_that_the_recipe_brings(
    name: str, tmp_path: Path, reference_folder: Path
) -> None:
    """Nothing saves their position: they are begun again as they were, and what was done passed."""
    expected = reference(name, reference_folder / name.replace(" ", "_"))
    assert same(interrupted(name, tmp_path, (5, 13, 3)), expected)


# -- in the middle of a save or a delete -------------------------------------------------------

WRITING = ["plain", "not beside", "end of epoch only"]


def failures_of_kills(name: str, tmp_path: Path, expected: Any, every: int) -> tuple[int, int]:
    """How many kills before a call that changes the disk were tried, and how many ended wrong."""
    setting = SETTINGS[name]
    names = calls_of_a_whole_run(setting, tmp_path / "whole")
    assert {"mkdir", "rename", "unlink", "rmdir", "fsync", "torch.save", "write"} <= set(names)
    tried = range(1, len(names), every)
    failed = 0
    for number in tried:
        folder = tmp_path / str(number)
        killed_while_writing(setting, folder, number)
        new_process()
        # The next process is killed while it writes as well, now and then while tidying up.
        killed_while_writing(setting, folder, 1 + number % 11)
        new_process()
        failed += not same(run(folder, setting, None), expected)
    return len(tried), failed


def test_same_end_when_killed_in_a_save_or_a_delete(tmp_path: Path, reference_folder: Path) -> None:
    expected = reference("end of epoch only", reference_folder / "end_of_epoch_only")
    tried, failed = failures_of_kills("end of epoch only", tmp_path, expected, every=17)
    assert tried >= 5
    assert failed == 0


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", WRITING)
def test_same_end_when_killed_before_any_write(
    name: str, tmp_path: Path, reference_folder: Path
) -> None:
    expected = reference(name, reference_folder / name.replace(" ", "_"))
    every = 1 if name == "end of epoch only" else 7
    tried, failed = failures_of_kills(name, tmp_path, expected, every)
    print(f"{name}: {tried} kills, {failed} failed")
    assert failed == 0


# -- Lightning's counters ----------------------------------------------------------------------


class Watcher(Callback):
    """Notes what a callback sees at the end of each batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int]] = []
        self.validated: list[tuple[int, int]] = []

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.seen.append((trainer.current_epoch, trainer.global_step, args[-1]))

    def on_validation_end(self, trainer: Any, *args: Any) -> None:
        self.validated.append((trainer.current_epoch, trainer.global_step))


class Counters:
    """The same callbacks for each process, with what they and the bar have seen in each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.watchers: list[Watcher] = []
        self.stoppers: list[EarlyStopping] = []
        self.bars: list[tuple[str, int | None, int]] = []
        monkeypatch.setattr(StageBar, "open", self._open)

    def callbacks(self) -> list[Any]:
        self.watchers.append(Watcher())
        # Waits from the first epoch on: no loss is that much better.
        self.stoppers.append(EarlyStopping("valid_loss", min_delta=1e9, patience=99))
        return [self.watchers[-1], self.stoppers[-1]]

    def _open(self, stage: Any, total: int | None, initial: int = 0) -> None:
        self.bars.append((stage.name, total, initial))


@pytest.mark.parametrize(
    "cut", [8, *(pytest.param(cut, marks=pytest.mark.long) for cut in (4, 7, 12))]
)
def test_counters_go_on(cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counters = Counters(monkeypatch)
    setting = Setting({"ckpt_interval_steps": 1}, callbacks=counters.callbacks)
    run(tmp_path / "whole", setting, None)
    whole, bars = counters.watchers[0], list(counters.bars)
    assert whole.seen[-1] == (EPOCHS - 1, EPOCHS * TRAIN_BATCHES, TRAIN_BATCHES - 1)

    counters.bars.clear()
    run(tmp_path / "cut", setting, cut)
    new_process()
    opened = len(counters.bars)
    run(tmp_path / "cut", setting, None)

    before, after = counters.watchers[1:]
    assert before.seen + after.seen == whole.seen
    assert before.validated + after.validated == whole.validated
    waited = [stopper.wait_count for stopper in counters.stoppers]
    assert waited[0] == waited[2] == EPOCHS - 1
    first_bar = counters.bars[opened]
    assert first_bar == ("TRAIN", TRAIN_BATCHES, len(before.seen) % TRAIN_BATCHES or _full(before))
    assert counters.bars[opened + 1 :] == bars[-len(counters.bars[opened + 1 :]) :]


def _full(before: Watcher) -> int:
    # Interrupted in validation: the epoch's training is complete, and no batch of it is left.
    return TRAIN_BATCHES if before.seen else 0
