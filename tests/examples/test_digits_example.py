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


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_has_the_numbers_of_speechbrain(tmp_path: Path, precision: str) -> None:
    options = [*HALF, "--precision", precision]
    run_recipe(RECIPE, *options, "--output_folder", "ours", cwd=tmp_path)

    (tmp_path / "recipe").mkdir()
    theirs = port_to_speechbrain(RECIPE, tmp_path / "recipe")
    run_recipe(theirs, *options, "--output_folder", "theirs", cwd=tmp_path)

    lines = log_lines(tmp_path / "ours")
    assert lines == log_lines(tmp_path / "theirs")
    assert len(lines) == 4
    assert value_of("test accuracy", lines[-1]) > 0.9


def test_bf16_is_not_fp32(tmp_path: Path, resumed: Path) -> None:
    run_recipe(RECIPE, *HALF, "--precision", "bf16", "--output_folder", "bf16", cwd=tmp_path)
    assert log_lines(tmp_path / "bf16")[:3] != log_lines(resumed)[:3]
