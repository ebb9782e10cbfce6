"""A checkpoint folder of SpeechBrain's kind to one of Lightning's ``.ckpt`` files, and back."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from brain_lightning.engine.checkpoints.converted_checkpoint import (
    Contents,
    from_lightning,
    to_lightning,
)
from brain_lightning.engine.checkpoints.lightning_checkpoint import read_files, write_files
from brain_lightning.facade.brain_state_file import read_brain_state, write_brain_state
from brain_lightning.parts.checkpoints.archive_checksums import find_damaged_entry
from brain_lightning.parts.checkpoints.checkpoint import (
    CKPT_PREFIX,
    METAFNAME,
    PARAMFILE_EXT,
    Checkpoint,
    find_paramfiles,
)
from brain_lightning.parts.checkpoints.draft import CheckpointDraft
from brain_lightning.parts.checkpoints.durable_file import file_in_the_making
from brain_lightning.parts.checkpoints.errors import (
    CheckpointError,
    DamagedCheckpointError,
    as_checkpoint_error,
)
from brain_lightning.parts.checkpoints.integrity import CHECKSUMS
from brain_lightning.parts.checkpoints.opening import open_checkpoint
from brain_lightning.parts.checkpoints.pickled_objects import refused_class
from brain_lightning.parts.checkpoints.resume_file import (
    SUFFIX,
    read_resume_file,
    resume_path,
    write_resume_file,
)

BRAIN = f"brain{PARAMFILE_EXT}"
"""The file with a Brain's own numbers, by the name under which a Brain adds itself."""


def convert(source: Path, target: Path) -> None:
    """Convert in the direction that ``source`` asks for: it is a folder, or a ``.ckpt`` file.

    Raises:
        FileNotFoundError: there is no source, or no folder for the target.
        FileExistsError: there is something at ``target`` already.
        CheckpointError: the source is no checkpoint, damaged, or cannot be converted; or the
            target cannot be written.
        ValueError: the target's name is not that of what it becomes.
    """
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist.")
    if target.exists() or target.is_symlink():
        raise FileExistsError(f"{target} exists already. Give a name that is free.")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"There is no folder {target.parent} for {target.name}. Make it first."
        )
    if source.is_dir():
        folder_to_file(source, target)
    else:
        file_to_folder(source, target)


def folder_to_file(source: Path, target: Path) -> None:
    """Convert a checkpoint folder to a ``.ckpt`` file; see :func:`convert`."""
    if target.suffix != PARAMFILE_EXT:
        raise ValueError(
            f"{source} is a folder and becomes a file, but {target} does not end in "
            f"{PARAMFILE_EXT}."
        )
    checkpoint = open_checkpoint(source)
    names = list(checkpoint.paramfiles)
    converted = to_lightning(_contents(checkpoint), names, epochs_done(checkpoint))
    try:
        with file_in_the_making(target) as path:
            torch.save(converted, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as the latter
        raise as_checkpoint_error(f"{target} could not be written", error) from error


def _contents(checkpoint: Checkpoint) -> Contents:
    files = read_files(checkpoint.path)
    for name in (METAFNAME, CHECKSUMS, resume_path(BRAIN).name):
        files.pop(name, None)
    numbers: dict[str, Any] = {"step": 0, "avg_train_loss": 0.0, "optimizer_step": 0}
    resume = None
    if BRAIN in files:
        with damage_named(checkpoint.path / BRAIN):
            numbers = read_brain_state(checkpoint.path / BRAIN)
            resume = read_resume_file(checkpoint.path / BRAIN)
    return Contents(
        meta=checkpoint.meta,
        step=numbers["step"],
        avg_train_loss=numbers["avg_train_loss"],
        optimizer_step=numbers["optimizer_step"],
        resume=resume,
        files=files,
        states={},
    )


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Raise what goes wrong while reading ``path`` as damage of it."""
    try:
        yield
    except Exception as error:  # whatever a parser says of bytes that are not its own
        text = " ".join(str(error).split())
        raise DamagedCheckpointError(f"{path} cannot be read: {text}") from error


def epochs_done(checkpoint: Checkpoint) -> int:
    """Return how many epochs were complete, if the checkpoint has an epoch counter's file."""
    numbers = [
        int(text)
        for name, path in checkpoint.paramfiles.items()
        if ("counter" in name or "epoch" in name) and (text := _short_text(path)).isdecimal()
    ]
    if len(numbers) != 1:
        return 0
    return numbers[0] if checkpoint.meta["end-of-epoch"] else max(numbers[0] - 1, 0)


def _short_text(path: Path, limit: int = 20) -> str:
    if path.stat().st_size > limit:
        return ""
    return path.read_bytes().decode("utf-8", errors="replace").strip()


def file_to_folder(source: Path, target: Path) -> None:
    """Convert a ``.ckpt`` file to a checkpoint folder; see :func:`convert`."""
    name = target.name.removeprefix(f"{CKPT_PREFIX}+")
    if name in ("", target.name):
        raise ValueError(
            f"{source} is a file and becomes a folder, but {target} is not named "
            f"{CKPT_PREFIX}+NAME, and by that a Checkpointer finds it."
        )
    checkpoint = load_lightning_file(source)
    try:
        contents = from_lightning(checkpoint, source.stat().st_mtime)
    except ValueError as error:
        raise CheckpointError(f"{source} cannot be converted: {error}") from error
    end_of_epoch = contents.meta["end-of-epoch"]
    draft = CheckpointDraft(target.parent, contents.meta, end_of_epoch, name)
    with draft.dropped_on_error():
        try:
            _write(contents, draft.path)
        except (OSError, RuntimeError) as error:
            raise as_checkpoint_error(f"{target} could not be written", error) from error
        draft.finish(list(find_paramfiles(draft.path)))


def _write(contents: Contents, folder: Path) -> None:
    write_files(folder, contents.files)
    for name, state in contents.states.items():
        torch.save(state, folder / f"{name}{PARAMFILE_EXT}")
    if BRAIN not in contents.files:
        average = contents.avg_train_loss
        write_brain_state(folder / BRAIN, contents.step, average, contents.optimizer_step)
    write_resume_file(folder / BRAIN, contents.resume)
    _restamp(path for path in folder.rglob(f"*{SUFFIX}") if path != resume_path(folder / BRAIN))


def _restamp(resume_files: Iterable[Path]) -> None:
    """Let further files for an exact resume say that they belong to this checkpoint."""
    for path in resume_files:
        main_file = path.with_suffix("")
        write_resume_file(main_file, read_resume_file(main_file))


def load_lightning_file(path: Path) -> dict[str, Any]:
    """Read a ``.ckpt`` file, after a look whether it is whole; no code in it is run.

    Raises:
        CheckpointError: it is none of Lightning's files, or holds pickled objects.
        DamagedCheckpointError: its bytes are not what was saved.
    """
    try:
        damaged = find_damaged_entry(path)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is neither a checkpoint folder nor one of Lightning's .ckpt files, or it is "
            f"damaged: {error}."
        ) from error
    if damaged is not None:
        raise DamagedCheckpointError(f"{path} is damaged: {damaged} in it is not what was saved.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        culprit = refused_class(error)
        what = "" if culprit is None else f" ({culprit})"
        raise CheckpointError(
            f"{path} holds pickled objects{what}, which can run any code, so it is not read."
        ) from error
    except (RuntimeError, LookupError, ValueError) as error:
        raise DamagedCheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(checkpoint, dict) or "pytorch-lightning_version" not in checkpoint:
        raise CheckpointError(
            f"{path} is none of Lightning's checkpoints: it was saved by torch, but it does not "
            "say the version of Lightning."
        )
    return checkpoint
