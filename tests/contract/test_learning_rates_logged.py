"""Learning rates reach the loggers by themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import callbacks
from torch.optim import SGD, Adam

from brain_lightning import Stage

from .small_brain import BATCHES, SmallBrain, fit, small_brain
from .test_callbacks import logged


class Warming(SmallBrain):
    """A new rate behind every step, as SpeechBrain's Noam scheduler sets it."""

    def on_fit_batch_end(self, *_: Any) -> None:
        self.optimizer.param_groups[0]["lr"] = 0.01 / (1 + self.optimizer_step)


class Halving(SmallBrain):
    """A new rate behind every epoch, as NewBob sets it."""

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        super().on_stage_end(stage, stage_loss, epoch)
        if stage is Stage.VALID:
            self.optimizer.param_groups[0]["lr"] /= 2


def rates(folder: Path, name: str = "lr-Adam") -> list[Any]:
    rows = (row for row in logged(folder) if name in row)
    return sorted({(row["step"], row["epoch"], row[name]) for row in rows})


def test_each_epoch_has_the_rate_of_its_last_step(tmp_path: Path) -> None:
    fit(small_brain(tmp_path / "1", Halving, logger="csv"))
    assert rates(tmp_path / "1") == [(4, 0, 0.01), (9, 1, 0.005), (14, 2, 0.0025)]
    assert all("lr-Adam" in row for row in logged(tmp_path / "1") if "train_loss" in row)
    fit(small_brain(tmp_path / "2", Warming, logger="csv", epochs=1))
    assert rates(tmp_path / "2") == [(4, 0, pytest.approx(0.01 / 5))]


def test_steps_have_the_rate_they_are_made_with(tmp_path: Path) -> None:
    fit(small_brain(tmp_path, Warming, logger="csv", epochs=2, log_every_n_steps=2))
    expected = {1, 3, 5, 7, 9} | {BATCHES - 1}
    assert rates(tmp_path) == [
        (step, step // BATCHES, pytest.approx(0.01 / (1 + step))) for step in sorted(expected)
    ]


@pytest.mark.parametrize("options", [{}, {"optimization": "automatic"}], ids=str)
def test_behind_a_resume(tmp_path: Path, options: dict[str, Any]) -> None:
    given: dict[str, Any] = {"logger": "csv", "saves": True, "options": options}
    fit(small_brain(tmp_path / "whole", Warming, log_every_n_steps=1, **given))
    fit(small_brain(tmp_path / "parts", Warming, epochs=1, saves=True, options=options))
    fit(small_brain(tmp_path / "parts", Warming, log_every_n_steps=1, **given))
    assert rates(tmp_path / "parts") == rates(tmp_path / "whole")[BATCHES:]


def two_of_a_kind(brain: SmallBrain) -> dict[str, torch.optim.Optimizer]:
    backbone, head = brain.modules["backbone"], brain.modules["head"]
    return {"a": Adam(backbone.parameters(), 0.1), "b": Adam(head.parameters(), 0.2)}


def two_groups(brain: SmallBrain) -> dict[str, torch.optim.Optimizer]:
    groups = [
        {"params": list(brain.modules[name].parameters()), "lr": rate}
        for name, rate in (("backbone", 0.1), ("head", 0.2))
    ]
    return {"a": SGD(groups)}


def named_group(brain: SmallBrain) -> dict[str, torch.optim.Optimizer]:
    return {"a": SGD([{"params": list(brain.modules.parameters()), "name": "all", "lr": 0.3}])}


@pytest.mark.parametrize("optimizers", [two_of_a_kind, two_groups, named_group])
def test_names_are_those_of_the_monitor(
    tmp_path: Path, optimizers: Callable[[SmallBrain], dict[str, torch.optim.Optimizer]]
) -> None:
    class Own(SmallBrain):
        def init_optimizers(self) -> None:
            self.optimizers_dict = optimizers(self)

    def last_rates(folder: Path, **arguments: Any) -> dict[str, float]:
        fit(small_brain(folder, Own, epochs=1, logger="csv", **arguments))
        rows = [{k: v for k, v in row.items() if k.startswith("lr-")} for row in logged(folder)]
        return [row for row in rows if row][-1]

    monitor = callbacks.LearningRateMonitor(logging_interval="epoch")
    monitored = last_rates(tmp_path / "1", callbacks=[monitor])
    assert last_rates(tmp_path / "2") == monitored
    assert monitored


def test_a_monitor_is_left_its_work(tmp_path: Path) -> None:
    monitor = callbacks.LearningRateMonitor(logging_interval="epoch")
    fit(small_brain(tmp_path, Halving, logger="csv", callbacks=[monitor], log_every_n_steps=1))
    rows = [(row["step"], row["lr-Adam"]) for row in logged(tmp_path) if "lr-Adam" in row]
    assert rows == [(0, 0.01), (5, 0.005), (10, 0.0025)]


def test_without_a_logger_there_are_none(tmp_path: Path) -> None:
    brain = fit(small_brain(tmp_path))
    assert not [name for name in brain.trainer.callback_metrics if name.startswith("lr")]
