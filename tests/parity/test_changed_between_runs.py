"""What users do with an experiment between two of its runs, and in the middle of a save."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from . import interrupted_runs
from .interrupted_runs import EPOCHS, TRAIN_BATCHES, Setting, new_process, run, same

# torch says so of a scheduler that is stepped in a process where its optimizer has not stepped yet.
pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")

SETTING = Setting({"ckpt_interval_steps": 1})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    result = run(tmp_path_factory.mktemp("whole"), SETTING, None)
    assert result is not None
    return result


def rename_each(folder: Path) -> Path:
    for index, each in enumerate(sorted((folder / "save").glob("CKPT+*"))):
        each.rename(each.with_name(f"CKPT+kept{index}"))
    return folder


def copy_all(folder: Path) -> Path:
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    return copy


def move_and_link(folder: Path) -> Path:
    """The newest checkpoint, and then the folder of all, as to another disk."""
    newest = max((folder / "save").glob("CKPT+*"), key=lambda path: path.stat().st_mtime_ns)
    for path in (newest, folder / "save"):
        target = path.rename(folder / f"other {path.name}")
        path.symlink_to(target)
    return folder


def add_other_things(folder: Path) -> Path:
    (folder / "save/CKPT+notes.txt").write_text("mine")
    (folder / "save/CKPT").mkdir()
    (folder / "save/CKPT+empty").mkdir()
    return folder


@pytest.mark.parametrize("change", [rename_each, copy_all, move_and_link, add_other_things])
def test_goes_on_all_the_same(
    change: Callable[[Path], Path], tmp_path: Path, whole: dict[str, Any]
) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    assert run(folder, SETTING, 13) is None
    new_process()
    assert same(run(change(folder), SETTING, None), whole)


@pytest.mark.filterwarnings("ignore:The checkpoint says that 4 batches of this epoch were used")
@pytest.mark.parametrize(("examples", "steps"), [(26, None), (8, None), (20, 2)])
def test_another_amount_of_data_or_batch_size(
    examples: int, steps: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epoch goes on behind the batches done, or ends where there are no more."""
    assert run(tmp_path, SETTING, 14) is None  # behind four batches of the second epoch
    monkeypatch.setattr(interrupted_runs, "EXAMPLES", examples)
    loader = {} if steps is None else {"batch_size": steps}
    resumed = run(tmp_path, Setting({"ckpt_interval_steps": 1}, loader), None)
    assert resumed is not None
    now = -(-examples // (steps or interrupted_runs.BATCH_SIZE))
    assert resumed["step"] == TRAIN_BATCHES + max(now, 4) + now * (EPOCHS - 2)


def failing_at(call: int, error: BaseException) -> Callable[..., None]:
    """torch.save, but for one call."""
    save = torch.save
    calls = 0

    def saving(*arguments: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        save(*arguments, **options)

    return saving


@pytest.mark.parametrize(
    ("error", "beside"),
    [(OSError(errno.ENOSPC, "No space left on device"), True), (KeyboardInterrupt(), False)],
    ids=["full disk", "interrupted"],
)
def test_a_save_that_fails_in_an_epoch(
    error: BaseException, beside: bool, tmp_path: Path, whole: dict[str, Any]
) -> None:
    """The run ends, the checkpoint before is there, and with space again the run goes on."""
    setting = Setting({**SETTING.options, "async_checkpoint": beside})
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OSError
    with patch.object(torch, "save", failing_at(30, error)), pytest.raises(expected):
        run(tmp_path, setting, None)
    left = [path.name for path in (tmp_path / "save").iterdir()]
    assert left
    assert not [name for name in left if name.startswith(".CKPT")]
    new_process()
    assert same(run(tmp_path, setting, None), whole)


def test_a_key_that_is_pressed_in_a_batch(tmp_path: Path, whole: dict[str, Any]) -> None:
    def interrupt(brain: Any) -> None:
        brain.batches += 1
        if brain.batches == 12:
            raise KeyboardInterrupt

    with (
        patch.object(interrupted_runs.Recipe, "_count", interrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        run(tmp_path, SETTING, None)
    new_process()
    assert same(run(tmp_path, SETTING, None), whole)
