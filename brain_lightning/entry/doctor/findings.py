"""Places in files, and sentences about them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Place(NamedTuple):
    """A line of a file."""

    file: Path
    line: int

    def __str__(self) -> str:
        """Return ``train.py:30``."""
        return f"{self.file.name}:{self.line}"


class Finding(NamedTuple):
    """A sentence, and where what it speaks of stands."""

    message: str
    place: Place | None = None


class UnreadableFileError(ValueError):
    """A file of the recipe cannot be read as what it should be."""

    def __init__(self, message: str, place: Place) -> None:
        """Say what is wrong, and where."""
        super().__init__(f"{place}: {message}")
        self.finding = Finding(message, place)
