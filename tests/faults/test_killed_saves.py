"""Whatever a process was doing when it was killed, the next one resumes from its last save."""

import os
import random
import re
import shutil
import time
from itertools import count
from pathlib import Path

import pytest

from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from tests.faults import writing_child
from tests.faults.forked_processes import forked
from tests.faults.writing_child import make_recoverables, set_step, steps_found

MODES = ["keep", "named", "mixed", "background"]


class Saver:
    """A saving process and what it has said."""

    def __init__(self, folder: Path, mode: str, die_before: int | None = None) -> None:
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self.earlier = len(self.lines())
        arguments = (str(folder), mode, str(self.log), die_before)
        self.process = forked.Process(target=writing_child.main, args=arguments)
        self.process.start()

    def kill_after_saving_for(self, seconds: float, saves: int = 0) -> None:
        """Kill it so long after it began, and after so many saves: a disk may be slow."""
        deadline = time.monotonic() + 60
        while len(self.lines()) <= self.earlier + saves:
            assert self.process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(seconds)
        assert self.process.is_alive(), "it failed; see its traceback"
        self.process.kill()
        self.process.join()

    def join(self) -> None:
        self.process.join(60)
        assert self.process.exitcode == -9, "it failed; see its traceback"

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def finished_steps(self, since: int = 0) -> list[int]:
        return [int(line) for line in self.lines()[since:] if line.isdigit()]

    def last_finished_step(self) -> int:
        return max(self.finished_steps(), default=0)

    def kills_since(self) -> int:
        """How many were killed since, each perhaps after a save that it could not tell of."""
        return 1 + re.split(r"^\d+\n", self.log.read_text(), flags=re.M)[-1].count("started")

    def last_words(self) -> str:
        return self.lines()[-1]

    def check_resume(self) -> None:
        """A next process finds one whole save, the last that was finished or a newer one."""
        recoverables = make_recoverables()
        set_step(recoverables, 0)
        found = Checkpointer(self.folder, recoverables).recover_if_possible()
        step = 0 if found is None else found.meta["step"]
        assert steps_found(recoverables) == {step}, "tensors of more than one save"
        assert self.last_finished_step() <= step <= self.last_finished_step() + self.kills_since()
        hidden = [entry for entry in os.listdir(self.folder) if entry.startswith(".")]
        assert hidden == [], "left-overs were not cleared"


def kill_at_random_moments(tmp_path: Path, times: int, seed: int) -> int:
    moments = random.Random(seed)
    saves = 0
    for number in range(times):
        # A few kills in a row in one folder, so that left-overs of left-overs are met too.
        folder = tmp_path / f"save{number // 5}"
        saver = Saver(folder, MODES[number // 5 % len(MODES)])
        saver.kill_after_saving_for(moments.uniform(0.0, 0.15), saves=moments.choice((0, 0, 1)))
        if number % 5 % 2:  # else the next saving process is the first to find the left-overs
            saver.check_resume()
        saves = max(saves, len(saver.finished_steps()))
    saver.check_resume()
    return saves


def test_killed_at_random_moments(tmp_path):
    assert kill_at_random_moments(tmp_path, 20, seed=1) > 0


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 12))
def test_killed_at_random_moments_a_thousand_times(tmp_path, seed):
    assert kill_at_random_moments(tmp_path, 100, seed) > 0


def prepared(tmp_path: Path, mode: str) -> Path:
    """A folder in which this way of saving has already saved."""
    recoverables = make_recoverables()
    folder = tmp_path / "prepared"
    checkpointer = Checkpointer(folder, recoverables)
    for step in (1, 2, 3):
        set_step(recoverables, step)
        writing_child.save("keep" if mode == "background" else mode, checkpointer, step)
    folder.with_suffix(".log").write_text("1\n2\n3\n")
    return folder


def copied(folder: Path, name: str) -> Path:
    copy = folder.with_name(name)
    shutil.copytree(folder, copy)
    shutil.copy(folder.with_suffix(".log"), copy.with_suffix(".log"))
    return copy


# What the long form has in addition are parts of what "mixed" does.
@pytest.mark.parametrize(
    "mode",
    ["mixed", "background", *(pytest.param(mode, marks=pytest.mark.long) for mode in MODES[:2])],
)
def test_killed_before_every_call_that_changes_the_disk(tmp_path, mode):
    folder = prepared(tmp_path, mode)
    called = set()
    for number in count(1):
        saver = Saver(copied(folder, str(number)), mode, die_before=number)
        saver.join()
        saver.check_resume()
        called.add(re.match(r"dies before (\S+)", saver.last_words())[1])
        if len(saver.finished_steps(since=3)) == 2:
            break
    expected = {"mkdir", "open", "write", "torch.save", "fsync", "rename", "unlink", "rmdir"}
    assert expected <= called
    assert number > 30


def killed_between_the_renames(tmp_path: Path) -> Path:
    """A folder in which a named checkpoint is neither the old nor the new one."""
    folder = prepared(tmp_path, "named")
    for number in count(1):
        saver = Saver(copied(folder, f"renames{number}"), "named", die_before=number)
        saver.join()
        if saver.last_words().startswith("dies before rename") and ".saving" in saver.last_words():
            return saver.folder
    raise AssertionError


def test_killed_while_tidying_up_after_a_kill(tmp_path):
    folder = killed_between_the_renames(tmp_path)
    assert sorted(os.listdir(folder)) == [".CKPT+latest.replaced", ".CKPT+latest.saving"]
    for number in count(1):
        saver = Saver(copied(folder, f"again{number}"), "named", die_before=number)
        saver.join()
        saver.check_resume()
        if saver.finished_steps(since=4):
            break
    assert number > 10


def test_a_save_that_is_going_on_is_left_alone_by_other_processes(tmp_path):
    saver = Saver(tmp_path / "save", "mixed")
    deadline = time.monotonic() + 60
    while len(saver.finished_steps()) < 10:
        # Each of these tidies up what it takes for left-overs.
        Checkpointer(saver.folder, {})
        assert saver.process.is_alive(), "it failed; see its traceback"
        assert time.monotonic() < deadline
    saver.process.kill()
    saver.join()
    saver.check_resume()
