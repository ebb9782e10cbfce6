"""Lines of the train log that are there already when a resumed run comes to write them again.

A recipe logs an epoch before it saves it, so a process that is killed in between leaves a line of
which no checkpoint knows. The run that goes on from an older checkpoint makes the same line again,
for it makes the same numbers. Nothing is ever taken out of a file: a line is left unwritten where
the very same text stands already after what the checkpoint knows of.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.hyperparameters import hyperparameters_of
from brain_lightning.ground.ranks import if_main_process
from brain_lightning.parts.checkpoints.checkpoint import is_checkpoint_dir
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.durable_file import file_in_the_making

_NOTE = ".train_logs_at_start"
_FILE_LOGGERS = frozenset(
    {"brain_lightning.parts.train_log.file_train_logger", "speechbrain.utils.train_logger"}
)
"""Where a ``log_stats`` is defined that does nothing but append to ``save_file``."""


def train_loggers(brain: BrainProtocol) -> dict[str, Any]:
    """Return the objects in the recipe's hparams that have ``log_stats``, by name."""
    return {
        name: value
        for name, value in hyperparameters_of(brain).items()
        if callable(getattr(value, "log_stats", None)) and not isinstance(value, type)
    }


def train_log_sizes(brain: BrainProtocol, repeats: RepeatedLines | None) -> dict[str, int]:
    """Return name of a train logger -> bytes of its file up to where the run is.

    The bytes are durable then, as the checkpoint will be that knows of them.
    """
    if not if_main_process():
        return {}
    ahead = {} if repeats is None else repeats.lengths()
    sizes = {}
    for name, path in _files(brain).items():
        sizes[name] = _durable_size(path) - ahead.get(name, 0)
    return sizes


def sizes_at_the_start(brain: BrainProtocol) -> dict[str, int] | None:
    """Return the sizes when a run began that was ended before it had saved anything, or None.

    Notes them, where this is the first that begins here, in a file beside the checkpoints to come.
    """
    checkpointer = brain.checkpointer
    if not (isinstance(checkpointer, Checkpointer) and if_main_process() and _files(brain)):
        return None
    note = checkpointer.checkpoints_dir / _NOTE
    if _has_checkpoints(note.parent):
        note.unlink(missing_ok=True)
        return None
    with suppress(FileNotFoundError, ValueError):
        return {name: int(size) for name, size in json.loads(note.read_text()).items()}
    with suppress(OSError), file_in_the_making(note) as path:
        path.write_text(json.dumps(train_log_sizes(brain, None)), encoding="utf-8")
    return None


def forget_start(brain: BrainProtocol, only_if_useless: bool = False) -> None:
    """Take the note away.

    Args:
        brain: whose run has ended.
        only_if_useless: keep it where the run has logged what no checkpoint knows of.
    """
    if not (isinstance(brain.checkpointer, Checkpointer) and if_main_process()):
        return
    note = brain.checkpointer.checkpoints_dir / _NOTE
    if only_if_useless and not _has_checkpoints(note.parent) and _has_grown(brain, note):
        return
    with suppress(OSError):
        note.unlink()


def _has_grown(brain: BrainProtocol, note: Path) -> bool:
    """Whether there is something in the train logs of which the note does not know."""
    try:
        noted = json.loads(note.read_text())
    except (OSError, ValueError):
        return False
    return bool(train_log_sizes(brain, None) != noted)


def _has_checkpoints(folder: Path) -> bool:
    return any(map(is_checkpoint_dir, folder.glob("*")))


class RepeatedLines:
    """What stands in the train logs after the point from which a fit goes on."""

    def __init__(self, brain: BrainProtocol, known: Mapping[str, int]) -> None:
        """Read it; ``known`` is what :func:`train_log_sizes` returned for the checkpoint."""
        self._waiting: dict[str, bytes] = {}
        if not if_main_process():
            return
        for name, path in _files(brain).items():
            text = path.read_bytes() if name in known and path.exists() else b""
            if text := text[known.get(name, 0) :]:
                self._waiting[name] = text

    def lengths(self) -> dict[str, int]:
        """Return name -> bytes in the file to which the run has not come yet."""
        return {name: len(text) for name, text in self._waiting.items()}

    @contextmanager
    def left_out(self, name: str, train_logger: Any) -> Iterator[None]:
        """Let ``train_logger`` log within, but not append what comes next in its file anyway."""
        if name not in self._waiting:
            yield
            return
        target = train_logger.save_file
        with tempfile.TemporaryDirectory() as folder:
            aside = Path(folder) / "log"
            train_logger.save_file = str(aside)
            try:
                yield
            finally:
                train_logger.save_file = target
                if aside.exists():
                    self._append(name, Path(target), aside.read_bytes())

    def _append(self, name: str, target: Path, text: bytes) -> None:
        waiting = self._waiting.pop(name)
        if waiting.startswith(text):
            if len(waiting) > len(text):
                self._waiting[name] = waiting[len(text) :]
            return
        if text.startswith(waiting):  # the machine went down while it was written
            text = text[len(waiting) :]
        with open(target, "ab") as file:
            file.write(text)


def _durable_size(path: Path) -> int:
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def _files(brain: BrainProtocol) -> dict[str, Path]:
    """Return the train loggers' names -> files, as far as files are all that they have.

    A file need not be there yet.
    """
    files = {}
    for name, each in train_loggers(brain).items():
        path = getattr(each, "save_file", None)
        plain = getattr(type(each).log_stats, "__module__", "") in _FILE_LOGGERS
        if not plain or not isinstance(path, (str, os.PathLike)):
            continue
        if os.path.isfile(path) or not os.path.exists(path):
            files[name] = Path(path)
    return files
