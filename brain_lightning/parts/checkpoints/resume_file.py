"""The file beside a checkpoint file that holds what SpeechBrain's format has no place for.

SpeechBrain reads only files that end in ``.ckpt`` and so does not see it; a checkpoint without it
is resumed as SpeechBrain does.
"""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any

import torch

SUFFIX = ".resume"


def resume_path(path: str | Path) -> Path:
    """Return where the file beside a checkpoint file is."""
    return Path(f"{path}{SUFFIX}")


def write_resume_file(path: str | Path, state: dict[str, Any] | None) -> None:
    """Write the state beside the checkpoint file ``path``; None takes away what an older save left.

    Raises:
    ------
    TypeError: the state has something that is neither tensor nor plain value, so that it could not
        be read again without running foreign code.
    """
    target = resume_path(path)
    if state is None:
        target.unlink(missing_ok=True)
        return
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except pickle.UnpicklingError as error:
        culprit = re.search(r"GLOBAL (\S+)", str(error))
        what = f" ({culprit[1]})" if culprit else ""
        raise TypeError(
            f"What {target.name} is to hold cannot be saved, because a state_dict() in it (of a "
            "data set or a callback) has something other than tensors, numbers, strings, lists and "
            f"dicts{what}."
        ) from error
    target.write_bytes(content)


def read_resume_file(path: str | Path) -> dict[str, Any] | None:
    """Return the state beside the checkpoint file ``path``, or None where there is none.

    Raises:
    ------
    ValueError: the file is damaged.
    """
    source = resume_path(path)
    if not source.exists():
        return None
    content = source.read_bytes()
    try:
        state = torch.load(io.BytesIO(content), weights_only=True)
    except (RuntimeError, EOFError, OSError, LookupError, ValueError, pickle.PickleError) as error:
        raise ValueError(
            f"{source} is damaged: it should hold what an exact resume needs. Without the file the "
            "run is resumed from the rest of the checkpoint, as SpeechBrain does."
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{source} should hold a dict, but holds a {type(state).__name__}.")
    return state
