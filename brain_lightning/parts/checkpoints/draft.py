"""A checkpoint while it is being saved: invisible until it is finished."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from brain_lightning.parts.checkpoints.checkpoint import (
    CKPT_PREFIX,
    METAFNAME,
    PARAMFILE_EXT,
    Checkpoint,
)
from brain_lightning.parts.checkpoints.durable_folder import (
    DELETING,
    REPLACED,
    SAVING,
    FolderInTheMaking,
    hidden_name,
)
from brain_lightning.parts.checkpoints.errors import CheckpointError, as_checkpoint_error
from brain_lightning.parts.checkpoints.integrity import write_checksums
from brain_lightning.parts.checkpoints.meta_file import meta_text, plain_meta


class CheckpointDraft:
    """A checkpoint in the making, in a folder that nobody takes for a checkpoint."""

    def __init__(
        self, checkpoints_dir: Path, meta: Mapping[str, Any], end_of_epoch: bool, name: str | None
    ) -> None:
        """Open the folder. ``name`` None makes a name from the time.

        Raises:
            TypeError: ``meta`` holds what the meta file cannot hold.
            CheckpointError: the folder cannot be written.
        """
        now = time.time()
        self.meta: dict[str, Any] = {"unixtime": now, "end-of-epoch": end_of_epoch}
        self.meta.update(plain_meta(meta))
        text = meta_text(self.meta)
        target = (
            new_path(checkpoints_dir, now) if name is None else named_path(checkpoints_dir, name)
        )
        with _storage_errors_named(f"No checkpoint can be saved in {target}"):
            self._folder = FolderInTheMaking(target)
        with (
            self.dropped_on_error(),
            _storage_errors_named(f"The meta file {target / METAFNAME} could not be saved"),
        ):
            (self.path / METAFNAME).write_text(text, encoding="utf-8")

    @property
    def path(self) -> Path:
        """The folder as it is now."""
        return self._folder.path

    @property
    def target(self) -> Path:
        """The folder as it will be when the checkpoint is finished."""
        return self._folder.target

    @contextmanager
    def dropped_on_error(self) -> Iterator[None]:
        """Remove what was written when an error or an interrupt ends the block."""
        try:
            yield
        except BaseException:
            self.discard()
            raise

    def finish(self, names: Sequence[str]) -> Checkpoint:
        """Make the checkpoint durable and visible.

        ``names`` are those of the recoverables whose files the checkpoint is said to have.
        """
        with _storage_errors_named(f"The checkpoint {self.target} could not be saved"):
            write_checksums(self.path, self.meta["unixtime"])
            self._folder.publish()
        paramfiles = {name: self.target / f"{name}{PARAMFILE_EXT}" for name in names}
        return Checkpoint(self.target, self.meta, paramfiles)

    def discard(self) -> None:
        """Remove what was written."""
        with suppress(OSError):  # the error that led here matters more; settle() comes back to it
            self._folder.discard()


@contextmanager
def _storage_errors_named(message: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise CheckpointError(f"{message}: another process or thread is saving it.") from error
    except OSError as error:
        raise as_checkpoint_error(message, error) from error


def named_path(checkpoints_dir: Path, name: str) -> Path:
    """Where the checkpoint of that name is."""
    if not name or os.path.basename(name) != name:
        raise ValueError(
            f"The checkpoint name {name!r} cannot be part of a folder's name; leave out slashes."
        )
    return checkpoints_dir / f"{CKPT_PREFIX}+{name}"


def new_path(checkpoints_dir: Path, unixtime: float) -> Path:
    """Where to save a checkpoint without a name: local time and the first free number."""
    stamp = time.strftime("%Y-%m-%d+%H-%M-%S", time.localtime(unixtime))
    paths = (checkpoints_dir / f"{CKPT_PREFIX}+{stamp}+{number:02d}" for number in count())
    return next(path for path in paths if not _is_taken(path))


def _is_taken(path: Path) -> bool:
    hidden = (hidden_name(path, role) for role in (SAVING, REPLACED, DELETING))
    return any(os.path.lexists(candidate) for candidate in (path, *hidden))
