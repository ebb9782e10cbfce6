"""A resumed run goes on in the files of the interrupted one, with the same numbers and axes."""

from __future__ import annotations

import csv
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from brain_lightning import Stage

from .small_brain import BATCHES, SmallBrain, fit, small_brain

pytestmark = pytest.mark.filterwarnings("ignore:Experiment logs directory")


class Interrupted(Exception):
    pass


class Cut(SmallBrain):
    """Ends in the middle of a step, a few steps behind the last checkpoint."""

    left = -1

    def fit_batch(self, batch: Any) -> torch.Tensor:
        loss = super().fit_batch(batch)
        self.log("loss", loss)
        self.left -= 1
        if self.left == 0:
            raise Interrupted
        return loss


def run(
    folder: Path, logger: Any, left: int = -1, interval: int = 2, accumulation: int = 1
) -> None:
    brain = small_brain(
        folder,
        Cut,
        saves=True,
        options={
            "ckpt_interval_steps": interval,
            "grad_accumulation_factor": accumulation,
            "async_checkpoint": False,
        },
        logger=logger,
        log_every_n_steps=1,
    )
    assert isinstance(brain, Cut)
    brain.left = left
    fit(brain)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def csv_logger(folder: Path, version: str | None) -> Any:
    return "csv" if version is None else CSVLogger(folder, version=version)


@pytest.mark.parametrize("version", [None, "mine"])
@pytest.mark.parametrize("cuts", [[4], [BATCHES + 1], [6, 4, 3]], ids=str)
def test_csv(tmp_path: Path, version: str | None, cuts: list[int]) -> None:
    run(tmp_path / "whole", csv_logger(tmp_path / "whole", version))
    for left in cuts:
        with pytest.raises(Interrupted):
            run(tmp_path / "cut", csv_logger(tmp_path / "cut", version), left)
    run(tmp_path / "cut", csv_logger(tmp_path / "cut", version))
    name = version or "version_0"
    file = Path("lightning_logs") / name / "metrics.csv"
    assert rows(tmp_path / "cut" / file) == rows(tmp_path / "whole" / file)
    steps = [row["step"] for row in rows(tmp_path / "cut" / file) if "loss" in row]
    assert steps == [str(step) for step in range(3 * BATCHES)]
    assert [each.name for each in (tmp_path / "cut" / "lightning_logs").iterdir()] == [name]


def test_a_run_that_begins_anew_gets_a_version_of_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        run(tmp_path, "csv")
        for path in (tmp_path / "save").glob("*/brain.ckpt*"):
            path.unlink()
        for path in (tmp_path / "save").iterdir():
            for each in path.iterdir():
                each.unlink()
            path.rmdir()
    files = [tmp_path / "lightning_logs" / f"version_{n}" / "metrics.csv" for n in (0, 1)]
    assert rows(files[0]) == rows(files[1])


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (version,) = (folder / "lightning_logs").iterdir()
    events = EventAccumulator(str(version)).Reload()
    names = events.Tags()["scalars"]
    return {name: [(each.step, each.value) for each in events.Scalars(name)] for name in names}


@pytest.mark.parametrize("version", [None, "mine"])
def test_tensorboard(tmp_path: Path, version: str | None) -> None:
    def logger(folder: Path) -> Any:
        return TensorBoardLogger(folder, version=version) if version else "tensorboard"

    run(tmp_path / "whole", logger(tmp_path / "whole"))
    for left in (8, 4):
        with pytest.raises(Interrupted):
            run(tmp_path / "cut", logger(tmp_path / "cut"), left)
        # TensorBoard reads files in the order of their names: the second, then the process and the
        # how manieth of the process it is, as text. Runs of one second may come in any order.
        time.sleep(1)
    run(tmp_path / "cut", logger(tmp_path / "cut"))
    # Each step once, although steps were done again.
    assert scalars(tmp_path / "cut") == scalars(tmp_path / "whole")
    steps = [step for step, _ in scalars(tmp_path / "cut")["loss"]]
    assert steps == list(range(3 * BATCHES))


def test_tensorboard_where_gradients_accumulate(tmp_path: Path) -> None:
    """Several batches have one step; the checkpoint is saved behind the first of them."""
    run(tmp_path / "whole", "tensorboard", interval=1, accumulation=3)
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", "tensorboard", 5, interval=1, accumulation=3)
    time.sleep(1)  # as above
    run(tmp_path / "cut", "tensorboard", interval=1, accumulation=3)
    found, expected = scalars(tmp_path / "cut"), scalars(tmp_path / "whole")
    assert len(expected["loss"]) == 3 * BATCHES
    # Points of one step may come in another order, and Lightning adds the epoch to each.
    for name in expected.keys() - {"epoch"}:
        assert sorted(found[name]) == sorted(expected[name]), name


def test_tensorboardx_leaves_out_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning writes with it where tensorboard is not installed."""
    from tensorboard.compat.proto import event_pb2

    from brain_lightning.engine.logs.logger_continuation import _leave_out_from

    added: list[Any] = []

    class FileWriter:
        def add_event(self, event: Any) -> None:
            added.append(event)

    FileWriter.__module__ = "tensorboardX.writer"
    monkeypatch.setitem(sys.modules, "tensorboardX", types.ModuleType("tensorboardX"))
    monkeypatch.setitem(sys.modules, "tensorboardX.proto", types.ModuleType("tensorboardX.proto"))
    own = types.ModuleType("tensorboardX.proto.event_pb2")
    vars(own).update(Event=event_pb2.Event, SessionLog=event_pb2.SessionLog)
    monkeypatch.setitem(sys.modules, own.__name__, own)
    logger = TensorBoardLogger(tmp_path)
    monkeypatch.setattr(logger.experiment, "file_writer", FileWriter())
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)

    _leave_out_from(logger, 7)
    assert [each.step for each in added] == [7, 7]
    assert added[1].session_log.status == event_pb2.SessionLog.START


class CutBetweenEpochs(SmallBrain):
    """Ends where the second epoch begins."""

    is_cut = False

    def on_stage_start(self, stage: Stage, epoch: int | None = None) -> None:
        super().on_stage_start(stage, epoch)
        if stage is Stage.TRAIN and epoch == 2 and self.is_cut:
            raise Interrupted


def test_what_is_logged_behind_the_save_at_the_end_of_an_epoch(tmp_path: Path) -> None:
    def part(folder: Path, is_cut: bool) -> None:
        brain = small_brain(folder, CutBetweenEpochs, saves=True, logger="csv")
        assert isinstance(brain, CutBetweenEpochs)
        brain.is_cut = is_cut
        fit(brain)

    part(tmp_path / "whole", False)
    with pytest.raises(Interrupted):
        part(tmp_path / "cut", True)
    part(tmp_path / "cut", False)
    file = Path("lightning_logs") / "version_0" / "metrics.csv"
    found = rows(tmp_path / "cut" / file)
    assert found == rows(tmp_path / "whole" / file)
    assert [row["epoch"] for row in found if "valid_loss" in row] == ["0", "1", "2"]
