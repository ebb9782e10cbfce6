"""Callbacks that a recipe's file makes with ``!new:``, however the recipe is started."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import BatchSizeFinder, EMAWeightAveraging, LearningRateFinder

from .test_callbacks import logged
from .yaml_recipe import WAYS, run_yaml

every_way = pytest.mark.parametrize("way", WAYS)
NEW = "!new:lightning.pytorch.callbacks"
ITEMS = 40


@every_way
def test_learning_rate_finder(tmp_path: Path, way: str) -> None:
    yaml = f"""
trainer:
    callbacks:
        - {NEW}.LearningRateFinder
            num_training_steps: 20
"""
    ran = run_yaml(tmp_path / "1", way, yaml)
    (finder,) = ran["hparams"]["trainer"]["callbacks"]
    assert isinstance(finder, LearningRateFinder)
    found = finder.optimal_lr.suggestion()
    assert found not in (None, 0.1)
    assert ran["brain"].optimizer.param_groups[0]["lr"] == found
    same = run_yaml(
        tmp_path / "2", way, "", "--opt_class", f"!name:torch.optim.SGD {{lr: {found}}}"
    )
    assert torch.equal(ran["brain"].modules.model.weight, same["brain"].modules.model.weight)


@pytest.mark.parametrize(
    "way",
    [*(pytest.param(way, marks=pytest.mark.long) for way in list(WAYS)[:-1]), list(WAYS)[-1]],
)
def test_batch_size_finder(tmp_path: Path, way: str) -> None:
    yaml = """
trainer:
    callbacks: !new:lightning.pytorch.callbacks.BatchSizeFinder
        max_trials: 3
        steps_per_trial: 1
    limit_val_batches: 1
"""
    ran = run_yaml(tmp_path, way, yaml)
    finder = ran["hparams"]["trainer"]["callbacks"]
    assert isinstance(finder, BatchSizeFinder)
    assert finder.optimal_batch_size == 8
    assert ran["brain"].optimizer_step == 2 * ITEMS // 8


@every_way
def test_ten_lines(tmp_path: Path, way: str) -> None:
    """Early stopping, a logger, a profiler and an average, and the command line over it."""
    yaml = f"""
trainer:
    callbacks:
        - {NEW}.EarlyStopping
            monitor: error
        - !ref <average>
    logger: !new:lightning.pytorch.loggers.CSVLogger
        save_dir: !ref <output_folder>
        name: mine
    profiler: simple
    max_steps: 3
average: {NEW}.EMAWeightAveraging
    decay: 0.5
"""
    arguments = ("--trainer.max_steps", "13", "--trainer.max_time", "00:01:00:00")
    ran = run_yaml(tmp_path, way, yaml, *arguments)
    assert isinstance(ran["hparams"]["average"], EMAWeightAveraging)
    rows = logged(tmp_path / "mine")
    assert [row["step"] for row in rows if "train_loss" in row] == [9, 12]
    assert len([row for row in rows if "test_loss" in row]) == 1
    assert (tmp_path / "fit-simple.txt").is_file()
