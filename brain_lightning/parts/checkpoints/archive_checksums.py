"""The checksums that ``torch.save`` writes with each entry, and ``torch.load`` does not look at."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO

import torch


def find_damaged_entry(file: str | Path | IO[bytes]) -> str | None:
    """Return the name of an entry that is not what was saved, or None.

    Raises:
        zipfile.BadZipFile: the file is no archive; other errors where only its parts are damaged.
    """
    with zipfile.ZipFile(file) as archive:
        damaged = archive.testzip()
    return damaged if _writes_checksums() else None


def _writes_checksums() -> bool:
    option = getattr(torch.serialization, "get_crc32_options", None)  # torch 2.4 always does
    return option is None or bool(option())
