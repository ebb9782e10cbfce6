"""The digits example with ten more lines of YAML: what they say takes effect."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.examples.recipe_process import (
    EXAMPLES,
    epochs_of,
    log_lines,
    port_to_speechbrain,
    value_of,
)

RECIPE = EXAMPLES / "digits"
TRAIN_OPTIONS = ["--number_of_epochs", "40", "--batch_size", "128", "--noprogressbar"]


def added_lines() -> list[str]:
    plain, extended = (
        (RECIPE / name).read_text(encoding="utf-8").splitlines()
        for name in ("hparams.yaml", "hparams_lightning.yaml")
    )
    changes = [line for line in difflib.ndiff(plain, extended) if line[0] != " "]
    assert all(line.startswith("+ ") for line in changes)
    return [line[2:] for line in changes]


def test_ten_lines_that_the_readme_shows() -> None:
    lines = added_lines()
    assert len(lines) <= 10
    shown = "".join(f"+{line}\n" for line in lines)
    assert shown in (RECIPE / "README.md").read_text(encoding="utf-8")


def run(cwd: Path, *command: str) -> Path:
    """Return the output folder."""
    done = subprocess.run(
        [sys.executable, *command, *TRAIN_OPTIONS, "--output_folder", "out"],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return cwd / "out"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = [str(RECIPE / name) for name in ("train.py", "hparams_lightning.yaml")]
    return run(tmp_path_factory.mktemp("digits"), *files)


def accuracies(output: Path) -> list[float]:
    return [value_of("valid accuracy", line) for line in log_lines(output)[:-1]]


def test_early_stopping(output: Path) -> None:
    """Three epochs without a better accuracy ended it, and nothing before did."""
    found = accuracies(output)
    assert epochs_of(log_lines(output)) == list(range(1, len(found) + 1))
    assert 4 <= len(found) < 40
    assert max(found[-3:]) <= max(found[:-3])


def test_tensorboard(output: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = output.glob("lightning_logs/version_*")
    events = EventAccumulator(str(folder)).Reload()
    logged = [event.value for event in events.Scalars("valid_accuracy")]
    assert logged == pytest.approx(accuracies(output), abs=0.01)
    assert {"train_loss", "valid_loss", "lr-AdamW", "test_accuracy"} <= set(
        events.Tags()["scalars"]
    )


def test_averaged_weights(output: Path) -> None:
    checkpoint = max((output / "save").iterdir(), key=lambda path: path.stat().st_mtime)
    trained = torch.load(checkpoint / "model.ckpt", weights_only=True)
    beside = torch.load(checkpoint / "brain.ckpt.resume", weights_only=True)["callback_checkpoint"]
    average = beside["state_dict"]
    name = next(iter(trained))
    assert not torch.equal(trained[name], average[f"brain_modules.model.{name}"])
    assert int(beside["averaging_state"]["n_averaged"]) > 10
    assert value_of("test accuracy", log_lines(output)[-1]) > 0.9


def test_the_same_lines_in_a_recipe_of_speechbrains(tmp_path: Path, output: Path) -> None:
    """It is started by ``brain-lightning run``, as it stands; the numbers are the same."""
    (tmp_path / "recipe").mkdir()
    recipe = port_to_speechbrain(RECIPE, tmp_path / "recipe")
    files = [str(recipe / name) for name in ("train.py", "hparams_lightning.yaml")]
    assert "brain_lightning" not in "".join(Path(file).read_text() for file in files)
    theirs = run(tmp_path, "-m", "brain_lightning", "run", *files)
    assert log_lines(theirs) == log_lines(output)
    assert list(theirs.glob("lightning_logs/version_*/events*"))
