"""A resumed run goes on in the loggers of the run that was interrupted.

CSVLogger and TensorBoardLogger choose the next free version where none is given, so that a resumed
run would begin a new one; and CSVLogger deletes what it finds in a version that is given. Here the
resumed run goes on in the version of the interrupted one. Rows of ``metrics.csv`` that were written
after the checkpoint stay, and are not written a second time; TensorBoard is told to leave out what
it has of the steps that are done again.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from brain_lightning.engine import lightning_internals as internals
from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.ranks import if_main_process

logger = get_logger(__name__)

_FILE, _KEPT = "metrics.csv", ".metrics.csv.kept"
_POINTS = "_brain_lightning_points"
Row = dict[str, str]


def logger_states(trainer: pl.Trainer) -> list[dict[str, Any]]:
    """Return where each logger writes; what a CSVLogger has of this run is in its file then."""
    states = []
    for each in trainer.loggers if if_main_process() else ():
        state: dict[str, Any] = {"kind": type(each).__name__, "version": _plain(each.version)}
        if isinstance(each, CSVLogger):
            each.save()
            state["rows"] = len(_read(Path(each.log_dir) / _FILE))
        if isinstance(each, TensorBoardLogger):
            state["points"] = [*vars(each).get(_POINTS, ()), *_points_to_come(trainer)]
        states.append(state)
    return states


def write_out(trainer: pl.Trainer) -> None:
    """Have the loggers write what they still hold."""
    for each in trainer.loggers:
        each.save()


def _plain(version: Any) -> int | str | None:
    return version if isinstance(version, (int, str)) else None


class LoggerContinuation:
    """The loggers of a fit, before it is known whether it goes on with another one.

    Order of calls: made before the Trainer sets its loggers up; then ``go_on`` or ``begin``.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        """Note which loggers choose their version, and take care of files that would go."""
        self._choosing: set[int] = set()
        self._kept: dict[int, Path] = {}
        for each in trainer.loggers if if_main_process() else ():
            if isinstance(each, TensorBoardLogger):
                _keep_points(each)
            if isinstance(each, (CSVLogger, TensorBoardLogger)) and not internals.is_open(each):
                if internals.chooses_version(each):
                    self._choosing.add(id(each))
                elif isinstance(each, CSVLogger):
                    self._keep(each)

    def _keep(self, each: CSVLogger) -> None:
        folder = Path(each.log_dir)
        if (folder / _FILE).is_file():
            os.replace(folder / _FILE, folder / _KEPT)
        if (folder / _KEPT).is_file():
            self._kept[id(each)] = folder / _KEPT

    def begin(self) -> None:
        """Let the files go, as Lightning does in a run that begins anew."""
        for kept in self._kept.values():
            kept.unlink()
        self._kept.clear()

    def go_on(self, trainer: pl.Trainer, states: Sequence[Mapping[str, Any]]) -> None:
        """Have the loggers go on where those were whose states these are."""
        for each, state in zip(trainer.loggers if if_main_process() else (), states, strict=False):
            if type(each).__name__ != state["kind"]:
                continue
            if id(each) in self._choosing and each.version != state["version"]:
                self._reopen(each, state["version"])
            elif not isinstance(each, (CSVLogger, TensorBoardLogger)):
                _tell_of_another_run(each, state["version"])
            if isinstance(each, TensorBoardLogger) and each.version == state["version"]:
                _leave_out_from(each, trainer.global_step)
                _log_again(each, state.get("points", ()), trainer.global_step)
            if isinstance(each, CSVLogger) and id(each) in self._kept:
                _go_on_in_file(each, self._kept.pop(id(each)), int(state.get("rows", 0)))
        self.begin()

    def _reopen(self, each: Any, version: int | str | None) -> None:
        """Go over to another version, and take away the empty one that was just begun."""
        begun = Path(each.log_dir)
        if isinstance(each, TensorBoardLogger):
            each.experiment.close()
            for events in begun.glob("events.out.tfevents.*"):
                events.unlink()
        with suppress(OSError):
            begun.rmdir()
        internals.set_version(each, version)
        if isinstance(each, CSVLogger):
            self._keep(each)
        _ = each.experiment


def _tell_of_another_run(each: Any, version: Any) -> None:
    if version is not None and _plain(each.version) != version:
        logger.info(
            "The interrupted run logged to %s's run %r, this one logs to %r. To go on in the same, "
            "give the logger that id.",
            type(each).__name__,
            version,
            each.version,
        )


def _leave_out_from(each: TensorBoardLogger, step: int) -> None:
    """Have TensorBoard leave out what was logged so far for ``step`` and later ones.

    What ``SummaryWriter(purge_step=step)`` writes first, for a writer that there is already.
    """
    files = each.experiment.file_writer
    if files is None:
        return
    # Lightning writes with tensorboardX where there is no tensorboard.
    is_by_tensorboardx = type(files).__module__.startswith("tensorboardX")
    kind = "tensorboardX.proto" if is_by_tensorboardx else "tensorboard.compat.proto"
    events = import_module(f"{kind}.event_pb2")
    files.add_event(events.Event(step=step, file_version="brain.Event:2"))
    start = events.SessionLog(status=events.SessionLog.START)
    files.add_event(events.Event(step=step, session_log=start))


def _keep_points(each: TensorBoardLogger) -> None:
    """Remember what is logged for the last step: where gradients accumulate, that is several times.

    A checkpoint may be saved in between, and TensorBoard can leave out whole steps only.
    """
    if _POINTS not in vars(each):
        vars(each)[_POINTS] = []
        vars(each)["log_metrics"] = partial(_log_and_remember, each)


def _points_to_come(trainer: pl.Trainer) -> list[tuple[int, dict[str, Any]]]:
    values = internals.values_to_be_logged(trainer)
    return [(internals.logged_step(trainer), _numbers(values))] if values else []


def _log_and_remember(
    each: TensorBoardLogger, metrics: Mapping[str, Any], step: int | None = None
) -> None:
    points = vars(each)[_POINTS]
    if step is not None:
        points[:] = [point for point in points if point[0] >= step - 1]
        points.append((step, _numbers(metrics)))
    type(each).log_metrics(each, metrics, step)


def _log_again(
    each: TensorBoardLogger, points: Sequence[tuple[int, dict[str, Any]]], step: int
) -> None:
    for number, values in points:
        if number >= step:
            each.log_metrics(values, number)


def _go_on_in_file(each: CSVLogger, kept: Path, known: int) -> None:
    writer = each.experiment
    os.replace(kept, kept.with_name(_FILE))
    rows = _read(kept.with_name(_FILE))
    with open(kept.with_name(_FILE), newline="") as file:
        writer.metrics_keys = next(csv.reader(file), [])
    waiting = [{name: text for name, text in row.items() if text} for row in rows[known:]]
    if not waiting:
        return
    log_metrics = writer.log_metrics

    def log_what_is_not_there(metrics: Mapping[str, Any], step: int | None = None) -> None:
        row = {name: str(_number(value)) for name, value in metrics.items()} | {"step": str(step)}
        if row in waiting:
            waiting.remove(row)
        else:
            log_metrics(dict(metrics), step)

    vars(writer)["log_metrics"] = log_what_is_not_there


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: _number(value) for name, value in metrics.items()}
    return {name: value for name, value in plain.items() if isinstance(value, (int, float))}


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
