"""What a checkpoint is: a folder with a meta file and one file for each recoverable."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import override

CKPT_PREFIX = "CKPT"
METAFNAME = f"{CKPT_PREFIX}.yaml"
PARAMFILE_EXT = ".ckpt"


class Checkpoint(NamedTuple):
    """One saved checkpoint.

    ``path`` is its folder, ``meta`` what its meta file says (``unixtime``, ``end-of-epoch`` and
    what the user gave), ``paramfiles`` maps the name of each recoverable to its file. It is hashed
    by its path, so that checkpoints can be put into sets.
    """

    path: Path
    meta: dict[str, Any]
    paramfiles: dict[str, Path]

    @override
    def __hash__(self) -> int:
        return hash(self.path)


def ckpt_recency(ckpt: Checkpoint) -> Any:
    """Importance key: when the checkpoint was saved, in seconds since 1970."""
    return ckpt.meta["unixtime"]


def is_checkpoint_dir(path: str | Path) -> bool:
    """Whether ``path`` is a folder that SpeechBrain and we take for a checkpoint."""
    path = Path(path)
    return path.is_dir() and path.name.startswith(CKPT_PREFIX) and (path / METAFNAME).exists()


def find_paramfiles(folder: Path) -> dict[str, Path]:
    """Name of each recoverable that was saved in ``folder`` -> its file, in order of name."""
    files = sorted(file for file in folder.iterdir() if file.suffix == PARAMFILE_EXT)
    return {file.stem: file for file in files}
