"""The file beside a checkpoint file that holds what SpeechBrain's format has no place for.

SpeechBrain reads only files that end in ``.ckpt`` and so does not see it; a checkpoint without it
is resumed as SpeechBrain does.

When SpeechBrain saves over a checkpoint of ours with the same name, our file stays. It has the time
of its own checkpoint, as the meta file says it, and is ignored beside a meta file that says another
one. The content of the checkpoint file would not do: a data loader's is a small number.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch

from brain_lightning.ground.loggers import get_logger
from brain_lightning.parts.checkpoints.archive_checksums import find_damaged_entry
from brain_lightning.parts.checkpoints.checkpoint import METAFNAME
from brain_lightning.parts.checkpoints.errors import DamagedCheckpointError
from brain_lightning.parts.checkpoints.meta_file import read_meta
from brain_lightning.parts.checkpoints.pickled_objects import refused_class

logger = get_logger(__name__)

SUFFIX = ".resume"
_TIME = "unixtime of the checkpoint"
_noted: ContextVar[dict[Path, dict[str, Any]] | None] = ContextVar("noted", default=None)


def resume_path(path: str | Path) -> Path:
    """Return where the file beside a checkpoint file is."""
    return Path(f"{path}{SUFFIX}")


def write_resume_file(path: str | Path, state: dict[str, Any] | None) -> None:
    """Write the state beside the checkpoint file ``path``; None takes away what an older save left.

    Within :func:`written_later` it is only noted.

    Raises:
        TypeError: the state has something that is neither tensor nor plain value, so that it could
            not be read again without running foreign code.
    """
    target = resume_path(path)
    if state is None:
        target.unlink(missing_ok=True)
        return
    noted = _noted.get()
    if noted is not None:
        noted[target] = dict(state)
        return
    write_noted(target, _on_cpu(state))


@contextmanager
def written_later() -> Iterator[dict[Path, dict[str, Any]]]:
    """Let states within not be written but noted; yields file -> state, for :func:`write_noted`."""
    noted: dict[Path, dict[str, Any]] = {}
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


def write_noted(target: Path, state: Mapping[str, Any]) -> None:
    """Write a state into the file that it was noted for.

    Raises:
        TypeError: see :func:`write_resume_file`.
    """
    buffer = io.BytesIO()
    torch.save({**state, _TIME: _time_of_checkpoint(target)}, buffer)
    content = buffer.getvalue()
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except pickle.UnpicklingError as error:
        culprit = refused_class(error)
        what = "" if culprit is None else f" ({culprit})"
        raise TypeError(
            f"What {target.name} is to hold cannot be saved, because a state_dict() in it (of a "
            "data set or a callback) has something other than tensors, numbers, strings, lists and "
            f"dicts{what}."
        ) from error
    target.write_bytes(content)


def read_resume_file(path: str | Path) -> dict[str, Any] | None:
    """Return the state beside the checkpoint file ``path``.

    None where there is none, or where it belongs to an older checkpoint that SpeechBrain has saved
    over.

    Raises:
        ValueError: the file is damaged, or cannot be read.
    """
    source = resume_path(path)
    if not source.exists():
        return None
    try:
        content = source.read_bytes()
        _require_checksums_within(content)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (
        RuntimeError,
        EOFError,
        OSError,
        LookupError,
        ValueError,
        pickle.PickleError,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(
            f"{source} is damaged: it should hold what an exact resume needs. Without the file the "
            "run is resumed from the rest of the checkpoint, as SpeechBrain does."
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{source} should hold a dict, but holds a {type(state).__name__}.")
    saved, now = state.pop(_TIME, None), _time_of_checkpoint(source)
    if None not in (saved, now) and saved != now:
        logger.info(f"{source} is left from a checkpoint that was saved over, and is ignored")
        return None
    return state


def _require_checksums_within(content: bytes) -> None:
    """Look at the checksums that the archive has of its entries.

    A checkpoint may come without its own: a flipped bit would be found deep in the run.
    """
    broken = find_damaged_entry(io.BytesIO(content))
    if broken is not None:
        raise ValueError(f"the checksum of its entry {broken} differs")


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if type(value) is dict:
        return {key: _on_cpu(item) for key, item in value.items()}
    return value


def _time_of_checkpoint(path: Path) -> float | None:
    """When the checkpoint that ``path`` is in was saved; None outside of a checkpoint."""
    meta_file = path.parent / METAFNAME
    if not meta_file.exists():
        return None
    try:
        return float(read_meta(meta_file)["unixtime"])
    except DamagedCheckpointError:
        return None  # whoever loads the checkpoint says so
