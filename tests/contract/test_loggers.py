"""Loggers: what reaches them, where they stand on the x axes, and their short names."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import callbacks, loggers

from brain_lightning import FileTrainLogger, Stage
from brain_lightning.ground.errors import MissingExtraError, OptionError

from .lightning_features import LOGGERS
from .small_brain import BATCH, BATCHES, Points, SmallBrain, fit, small_brain
from .test_callbacks import logged


class Writing(SmallBrain):
    """Writes a train log, as recipes do, and logs on its own from several hooks."""

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.log("at_start", 1.0)

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        super().on_stage_end(stage, stage_loss, epoch)
        vars(self).setdefault("losses", {}).setdefault(stage.name, []).append(float(stage_loss))
        if stage is Stage.TRAIN:
            self.train_stats = {"loss": stage_loss}
            self.log("of_training", 2.0)
        elif stage is Stage.VALID:
            assert epoch is not None
            self.hparams.train_logger.log_stats(
                {"epoch": epoch, "lr": 0.5}, self.train_stats, {"loss": stage_loss, "WER": 7.25}
            )
        else:
            self.hparams.train_logger.log_stats({"Epoch loaded": 2}, test_stats={"WER": 6.5})

    def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Any, should_step: bool) -> None:
        self.log("of_batch", loss.detach())

    def evaluate_batch(self, batch: Any, stage: Stage) -> torch.Tensor:
        self.log("of_evaluation", float(self.step))
        return super().evaluate_batch(batch, stage)


def writing(folder: Path, **trainer: Any) -> SmallBrain:
    brain = small_brain(folder, Writing, log_every_n_steps=1, saves=True, **trainer)
    brain.hparams.train_logger = FileTrainLogger(folder / "train_log.txt")
    return brain


def values(rows: list[dict[str, float]], name: str) -> list[tuple[float, float, float | None]]:
    return [(row["step"], row.get("epoch", -1), row[name]) for row in rows if name in row]


def test_every_logger_is_in_the_table() -> None:
    assert sorted(LOGGERS) == sorted(loggers.__all__)


def test_values_and_axes(tmp_path: Path) -> None:
    brain = fit(writing(tmp_path, logger="csv"))
    brain.evaluate(Points(8), test_loader_kwargs={"batch_size": BATCH})
    rows = logged(tmp_path)
    ends = [(BATCHES * (epoch + 1) - 1, epoch) for epoch in range(3)]
    assert values(rows, "valid_WER") == [(*end, 7.25) for end in ends]
    assert values(rows, "lr") == [(*end, 0.5) for end in ends]
    assert values(rows, "WER") == [(*end, 49.0 - end[1]) for end in ends]
    assert values(rows, "of_training") == [(*end, 2.0) for end in ends]
    assert values(rows, "at_start") == [(0, 0, 1.0)]
    assert values(rows, "test_WER") == [(14, 2, 6.5)]
    for stage, where in (("train", ends), ("valid", ends), ("test", ends[-1:])):
        logged_losses = values(rows, f"{stage}_loss")
        assert [value[:2] for value in logged_losses] == where
        # to the last digit: what a recipe writes of it to its train log is the same number
        assert [value[2] for value in logged_losses] == vars(brain)["losses"][stage.upper()]
    # an average of batches, each of which counts as one
    assert values(rows, "of_evaluation") == [*((*end, 1.5) for end in ends), (14, 2, 1.5)]
    assert [step for step, _, _ in values(rows, "of_batch")] == list(range(15))


def test_axes_behind_a_resume(tmp_path: Path) -> None:
    fit(writing(tmp_path / "whole", logger="csv"))
    first = writing(tmp_path / "parts")
    first.hparams.counter.limit = 2
    fit(first)
    fit(writing(tmp_path / "parts", logger="csv"))
    whole = logged(tmp_path / "whole")
    parts = logged(tmp_path / "parts")
    for name in ("train_loss", "valid_loss", "valid_WER", "of_batch"):
        assert values(parts, name) == values(whole, name)[-len(values(parts, name)) :]
        assert values(parts, name)


def test_train_log_is_the_same_with_loggers(tmp_path: Path) -> None:
    fit(writing(tmp_path / "with", logger=["csv", "tensorboard"]))
    fit(writing(tmp_path / "without"))
    with_loggers = (tmp_path / "with" / "train_log.txt").read_text()
    assert with_loggers == (tmp_path / "without" / "train_log.txt").read_text()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_TensorBoardLogger(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(writing(tmp_path, logger="tensorboard"))
    (folder,) = tmp_path.rglob("version_0")
    events = EventAccumulator(str(folder)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("valid_WER")] == [
        (4, 7.25),
        (9, 7.25),
        (14, 7.25),
    ]


def test_CSVLogger_object(tmp_path: Path) -> None:
    fit(small_brain(tmp_path, logger=loggers.CSVLogger(tmp_path / "mine", name="x")))
    assert len(values(logged(tmp_path / "mine"), "train_loss")) == 3


def test_Logger_of_the_users_own(tmp_path: Path) -> None:
    class Own(loggers.Logger):
        name, version = "own", 0
        seen: list[Any] = []

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            self.seen.append((step, metrics))

        def log_hyperparams(self, *_: Any, **__: Any) -> None:
            """Nothing."""

    fit(small_brain(tmp_path, epochs=1, logger=[Own(), loggers.CSVLogger(tmp_path)]))
    assert [step for step, metrics in Own.seen if "train_loss" in metrics] == [4]


class StandInForLitlogger(ModuleType):
    """Takes what Lightning's logger hands to the package, which talks to a service."""

    def __init__(self) -> None:
        super().__init__("litlogger")
        self.series: dict[str, list[tuple[float, int]]] = {}

    def Experiment(self, **settings: Any) -> Any:
        assert settings["name"].startswith("mine")
        return self

    def __getitem__(self, key: str) -> Any:
        points = self.series.setdefault(key, [])
        return SimpleNamespace(append=lambda value, step: points.append((value, step)))

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


@pytest.mark.filterwarnings("ignore:LitLogger does not support")
def test_LitLogger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = StandInForLitlogger()
    monkeypatch.setitem(sys.modules, "litlogger", package)
    brain = fit(writing(tmp_path, logger=loggers.LitLogger(tmp_path, name="mine")))
    assert package.series["valid_WER"] == [(7.25, 4), (7.25, 9), (7.25, 14)]
    assert len(package.series["of_batch"]) == brain.optimizer_step


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tensorboard", "TensorBoardLogger"),
        ("mlflow", "MLFlowLogger"),
        ("wandb", "WandbLogger"),
        ("comet", "CometLogger"),
    ],
)
def test_a_missing_package_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError(kind)

    monkeypatch.setattr(loggers, kind, missing)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # so that it is put back
    with pytest.raises(MissingExtraError, match=rf"trainer\.logger='{name}' .*\[{name}\]'"):
        fit(small_brain(tmp_path, logger=name))
    assert f"\n{name} = [" in (Path(__file__).parents[2] / "pyproject.toml").read_text()


@pytest.mark.skipif(hasattr(loggers, "NeptuneLogger"), reason="Lightning 2.5 has it")
def test_neptune_is_gone(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"'neptune' cannot be had.*Use one of csv, tensorboard"):
        fit(small_brain(tmp_path, logger="neptune"))


def test_unknown_short_name(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="Did you mean 'tensorboard'"):
        small_brain(tmp_path, logger="tensorbord")


def test_own_logger_objects_see_all_runs(tmp_path: Path) -> None:
    """A short name is one logger for fit and evaluate, not one for each."""
    brain = fit(small_brain(tmp_path, epochs=1, logger="csv"))
    brain.evaluate(Points(8), test_loader_kwargs={"batch_size": BATCH})
    assert [path.name for path in tmp_path.rglob("version_*")] == ["version_0"]
    assert len(values(logged(tmp_path), "test_loss")) == 1


def test_log_outside_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"log\('x'\).*nothing runs"):
        small_brain(tmp_path).log("x", 1.0)


def test_nested_runs_leave_callbacks_alone(tmp_path: Path) -> None:
    class Testing(SmallBrain):
        def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
            super().on_stage_end(stage, stage_loss, epoch)
            if stage is Stage.VALID:
                self.evaluate(Points(4), test_loader_kwargs={"batch_size": BATCH})

    seen: list[str] = []
    watching = callbacks.LambdaCallback(
        on_test_start=lambda *_: seen.append("test"), on_validation_end=lambda *_: seen.append("v")
    )
    fit(small_brain(tmp_path, Testing, epochs=2, logger="csv", callbacks=[watching]))
    assert seen == ["v", "v"]
    assert [step for step, _, _ in values(logged(tmp_path), "test_loss")] == [4, 9]
