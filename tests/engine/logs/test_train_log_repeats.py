"""A line that a killed run has logged but not saved is there once when the next one is done."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from speechbrain.utils.train_logger import FileTrainLogger as TheirLogger

from brain_lightning import Brain, Checkpointer, EpochCounter, FileTrainLogger, Stage
from brain_lightning.engine.logs.train_log_repeats import RepeatedLines, train_log_sizes


class Killed(BaseException):
    """Stands for a kill."""


class Recipe(Brain):
    """Logs, then is killed, then saves."""

    dies_in: int | None = None
    """The epoch, or less than zero for one that is not to begin."""
    lr = 0.1

    def on_stage_start(self, stage: Stage, epoch: int | None = None) -> None:
        if epoch is not None and epoch == -(self.dies_in or 0):
            raise Killed

    def compute_forward(self, batch: Any, stage: Stage) -> Any:
        return self.modules.model(batch)

    def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
        return predictions.square().mean()

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        self.hparams.train_logger.log_stats(
            {"epoch": epoch, "lr": self.lr}, train_stats={"loss": stage_loss}
        )
        if epoch is not None and epoch == self.dies_in:
            raise Killed
        if stage is Stage.TRAIN:
            self.checkpointer.save_and_keep_only()


def fit(folder: Path, kind: type, dies_in: int | None = None, lr: float = 0.1) -> str:
    torch.manual_seed(0)
    model, counter = torch.nn.Linear(2, 1), EpochCounter(3)
    brain = Recipe(
        {"model": model},
        lambda parameters: torch.optim.SGD(parameters, lr),
        hparams={"train_logger": kind(str(folder / "log.txt"))},
        run_opts={"noprogressbar": True},
        checkpointer=Checkpointer(folder / "save", {"model": model, "counter": counter}),
    )
    brain.dies_in, brain.lr = dies_in, lr
    try:
        brain.fit(counter, [torch.ones(1, 2)] * 2)
    except Killed:
        pass
    else:
        brain.evaluate([torch.ones(1, 2)])
    log = folder / "log.txt"
    return log.read_text() if log.exists() else ""


def test_a_test_that_is_run_again_is_logged_again(tmp_path: Path) -> None:
    """Nobody can tell a run that was killed behind its test from one that is to test once more."""
    once = fit(tmp_path, FileTrainLogger).splitlines()
    assert fit(tmp_path, FileTrainLogger).splitlines() == [*once, once[-1]]


@pytest.mark.parametrize("kind", [FileTrainLogger, TheirLogger])
@pytest.mark.parametrize("deaths", [[1], [2], [1, 1, 2, 2, 2, 3, 3]], ids=str)
def test_the_log_is_that_of_a_run_never_killed(
    tmp_path: Path, kind: type, deaths: list[int]
) -> None:
    (tmp_path / "whole").mkdir()
    whole = fit(tmp_path / "whole", kind)
    assert whole.count("\n") == 4
    for epoch in deaths:
        assert fit(tmp_path, kind, epoch).count("\n") == epoch
    assert fit(tmp_path, kind) == whole
    assert not list((tmp_path / "save").glob(".*"))


def test_a_run_that_fails_before_it_has_logged_leaves_nothing(tmp_path: Path) -> None:
    assert fit(tmp_path, FileTrainLogger, dies_in=-1) == ""
    assert list((tmp_path / "save").iterdir()) == []


def test_what_differs_is_appended_and_nothing_is_taken_away(tmp_path: Path) -> None:
    killed = fit(tmp_path, FileTrainLogger, 2)
    resumed = fit(tmp_path, FileTrainLogger, lr=0.2)
    assert resumed.startswith(killed)
    added = resumed[len(killed) :].splitlines()
    assert [line[:26] for line in added[:2]] == [
        "epoch: 2, lr: 2.00e-01 - t",
        "epoch: 3, lr: 2.00e-01 - t",
    ]


def test_a_run_that_begins_anew_logs_everything(tmp_path: Path) -> None:
    """The user has deleted the checkpoints: the same lines again are a second run's."""
    whole = fit(tmp_path, FileTrainLogger)
    for path in sorted((tmp_path / "save").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert fit(tmp_path, FileTrainLogger) == whole * 2


def test_evaluation_of_a_finished_run_is_logged_each_time(tmp_path: Path) -> None:
    whole = fit(tmp_path, FileTrainLogger)
    assert fit(tmp_path, FileTrainLogger) == whole + whole.splitlines(keepends=True)[-1]


class TwoFiles(FileTrainLogger):
    """Writes elsewhere too, beside its file."""

    def log_stats(self, *args: Any, **kwargs: Any) -> None:
        super().log_stats(*args, **kwargs)
        with open(f"{self.save_file}.2", "a") as file:
            file.write("line\n")


def test_a_logger_that_does_more_is_left_alone(tmp_path: Path) -> None:
    fit(tmp_path, TwoFiles, 2)
    fit(tmp_path, TwoFiles)
    assert (tmp_path / "log.txt.2").read_text().count("line") == 2 + 2 + 1


def test_a_line_that_was_cut_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    log = FileTrainLogger(str(path))
    brain: Any = SimpleNamespace(hparams=SimpleNamespace(log=log))
    log.log_stats({"epoch": 1})
    known = train_log_sizes(brain, None)
    log.log_stats({"epoch": 2})
    path.write_text(path.read_text()[:-3])
    repeats = RepeatedLines(brain, known)
    assert train_log_sizes(brain, repeats) == known
    with repeats.left_out("log", log):
        log.log_stats({"epoch": 2})
    assert path.read_text() == "epoch: 1\nepoch: 2\n"
    assert train_log_sizes(brain, repeats) == {"log": 18}
