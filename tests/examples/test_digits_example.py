"""The digits example: learns, resumes, has a bf16 variant, and has SpeechBrain's numbers."""

import re
from pathlib import Path

import pytest

from tests.examples.recipe_process import (
    EXAMPLES,
    epochs_of,
    log_lines,
    port_to_speechbrain,
    run_recipe,
    value_of,
)

RECIPE = EXAMPLES / "digits"
HALF = ["--number_of_epochs", "3", "--noprogressbar"]
ALL = ["--number_of_epochs", "6", "--noprogressbar"]
NUMBER = r"\d\.\d\de[+-]\d\d|\d+\.\d\d"
EPOCH_LINE = re.compile(
    rf"epoch: \d+, lr: 1\.00e-03 - train loss: ({NUMBER}) - "
    rf"valid loss: ({NUMBER}), valid accuracy: ({NUMBER})"
)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a run that was called for half of the epochs, then for all."""
    cwd = tmp_path_factory.mktemp("digits")
    run_recipe(RECIPE, *HALF, cwd=cwd)
    output = cwd / "results" / "digits" / "1234"
    assert epochs_of(log_lines(output)) == [1, 2, 3]
    run_recipe(RECIPE, *ALL, cwd=cwd)
    return output


def test_second_call_resumes(resumed: Path) -> None:
    assert epochs_of(log_lines(resumed)) == [1, 2, 3, 4, 5, 6]


def test_learns_to_read(resumed: Path) -> None:
    lines = log_lines(resumed)
    assert value_of("test accuracy", lines[-1]) > 0.95
    losses = [value_of("train loss", line) for line in lines if line.startswith("epoch")]
    assert losses[-1] < losses[2] < losses[0]


def test_each_stage_is_logged(resumed: Path) -> None:
    *epochs, last = log_lines(resumed)
    after_half = epochs.pop(3)
    assert all(EPOCH_LINE.fullmatch(line) for line in epochs)
    assert after_half.startswith("Epoch loaded: ")
    assert last.startswith("Epoch loaded: ")


def test_leaves_the_files_of_an_experiment(resumed: Path) -> None:
    names = {path.name for path in resumed.iterdir()}
    assert names == {
        "env.log",
        "hyperparams.yaml",
        "log.txt",
        "save",
        "train.py",
        "train_log.txt",
    }
    assert (resumed / "train.py").read_bytes() == (RECIPE / "train.py").read_bytes()
    assert "number_of_epochs: 6" in (resumed / "hyperparams.yaml").read_text(encoding="utf-8")
    checkpoints = list((resumed / "save").iterdir())
    assert 1 <= len(checkpoints) <= 2  # the best and the last
    for checkpoint in checkpoints:
        held = {path.name for path in checkpoint.iterdir()}
        assert held >= {"CKPT.yaml", "model.ckpt", "optimizer.ckpt", "epoch_counter.ckpt"}


def run_under_speechbrain(folder: Path, *options: str) -> list[str]:
    """The train log of the same recipe under SpeechBrain."""
    (folder / "recipe").mkdir()
    recipe = port_to_speechbrain(RECIPE, folder / "recipe")
    run_recipe(recipe, *options, "--output_folder", "theirs", cwd=folder)
    return log_lines(folder / "theirs")


def test_has_the_numbers_of_speechbrain(tmp_path: Path, resumed: Path) -> None:
    theirs = run_under_speechbrain(tmp_path, *HALF)
    assert len(theirs) == 4
    assert log_lines(resumed)[:4] == theirs


@pytest.mark.long
def test_bf16_has_the_numbers_of_speechbrain(tmp_path: Path, resumed: Path) -> None:
    options = [*HALF, "--precision", "bf16"]
    theirs = run_under_speechbrain(tmp_path, *options)
    run_recipe(RECIPE, *options, "--output_folder", "ours", cwd=tmp_path)
    ours = log_lines(tmp_path / "ours")
    assert ours == theirs
    assert ours[:3] != log_lines(resumed)[:3]
    assert value_of("test accuracy", ours[-1]) > 0.9
