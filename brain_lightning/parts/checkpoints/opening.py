"""Opening one checkpoint by its path, outside of a Checkpointer."""

from __future__ import annotations

from pathlib import Path

from brain_lightning.parts.checkpoints.checkpoint import (
    CKPT_PREFIX,
    METAFNAME,
    Checkpoint,
    find_paramfiles,
    is_checkpoint_dir,
)
from brain_lightning.parts.checkpoints.errors import CheckpointError, DamagedCheckpointError
from brain_lightning.parts.checkpoints.integrity import find_damage
from brain_lightning.parts.checkpoints.meta_file import read_meta


def open_checkpoint(folder: Path) -> Checkpoint:
    """Return the checkpoint that a folder is, after a look whether it is whole.

    Raises:
        CheckpointError: the folder is no checkpoint.
        DamagedCheckpointError: its files are not what was saved.
    """
    if not (folder / METAFNAME).is_file():
        raise CheckpointError(f"{folder} is no checkpoint: {_what_is_there(folder)}.")
    meta = read_meta(folder / METAFNAME)
    if not isinstance(meta.get("end-of-epoch"), bool):
        raise DamagedCheckpointError(f"{folder / METAFNAME} does not say end-of-epoch.")
    damages = find_damage(folder)
    if damages:
        raise DamagedCheckpointError(" ".join(f"{damage}." for damage in damages))
    return Checkpoint(folder, meta, find_paramfiles(folder))


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the folders of the checkpoints in a Checkpointer's folder, by name."""
    return sorted(filter(is_checkpoint_dir, folder.iterdir()))


def _what_is_there(folder: Path) -> str:
    inside = [path.name for path in checkpoints_in(folder)]
    if inside:
        return f"it is a folder of checkpoints; give one of them: {', '.join(inside)}"
    return f"it has no {METAFNAME}; a checkpoint is a folder {CKPT_PREFIX}+... that has one"
