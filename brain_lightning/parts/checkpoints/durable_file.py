"""A file that is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from brain_lightning.parts.checkpoints.durable_folder import (
    SAVING,
    flush_file,
    flush_folder,
    hidden_name,
)


@contextmanager
def file_in_the_making(target: Path) -> Iterator[Path]:
    """Yield a hidden path beside ``target`` to be written, which gets its name at the end.

    Nothing is left of it when an error ends the block.
    """
    hidden = hidden_name(target, SAVING)
    try:
        yield hidden
        flush_file(hidden)
        os.rename(hidden, target)
        flush_folder(target.parent)
    finally:
        hidden.unlink(missing_ok=True)
