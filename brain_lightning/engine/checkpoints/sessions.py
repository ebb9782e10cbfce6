"""Whether a checkpoint was saved by the run in progress, or by one that was interrupted.

Each process names its checkpointers, and counts the fits of each.
"""

from __future__ import annotations

import functools
import itertools
import os
import uuid
from collections.abc import MutableMapping

from torch.utils.weak import WeakIdKeyDictionary

from brain_lightning.ground.failure_board import session_of_group

_numbers = itertools.count()
_counted: MutableMapping[object, int] = WeakIdKeyDictionary()
_fits: MutableMapping[object, int] = WeakIdKeyDictionary()


def session_of(checkpointer: object) -> str:
    """A name for the run that saves with this very checkpointer.

    When it recovers a checkpoint of its own, nothing was interrupted: a second ``fit()``, or a
    second Brain with the same checkpointer, goes on as in SpeechBrain.
    """
    if checkpointer is None:
        return ""
    count_checkpointer(checkpointer)
    return f"{session_of_group() or _name_of_process(os.getpid())}-{_counted[checkpointer]}"


@functools.cache
def _name_of_process(pid: int) -> str:
    # A forked process has the memory of its parent, and is another one.
    return f"{pid}-{uuid.uuid4().hex}"


def count_checkpointer(checkpointer: object) -> None:
    """Number a checkpointer; several processes use the same ones first in the same order."""
    if checkpointer not in _counted:
        _counted[checkpointer] = next(_numbers)


def count_fit(checkpointer: object) -> None:
    """Count a ``fit()`` whose Brain has this checkpointer, when it begins."""
    if checkpointer is not None:
        _fits[checkpointer] = fits_begun(checkpointer) + 1


def fits_begun(checkpointer: object) -> int:
    """How many they are by now."""
    return 0 if checkpointer is None else _fits.get(checkpointer, 0)
