"""Whether the files of a checkpoint are still what was saved, and can be read.

Sizes and checksums are kept in a further file that SpeechBrain does not look at. A checkpoint
without that file, as SpeechBrain saves them, is taken as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from brain_lightning.parts.checkpoints.checkpoint import METAFNAME, PARAMFILE_EXT
from brain_lightning.parts.checkpoints.errors import DamagedCheckpointError
from brain_lightning.parts.checkpoints.meta_file import read_meta
from brain_lightning.parts.checkpoints.resume_file import SUFFIX as RESUME_SUFFIX

CHECKSUMS = "checksums.json"
_BLOCK = 1 << 20


class Damage(NamedTuple):
    """A file of a checkpoint that is not what was saved, or cannot be read."""

    file: Path
    reason: str
    is_missing: bool = False

    @property
    def recoverable(self) -> str | None:
        """The name of the recoverable whose file it is, None for other files."""
        return self.file.stem if self.file.suffix == PARAMFILE_EXT else None

    def __str__(self) -> str:
        """Say which file it is, whose, and what is wrong with it."""
        whose = f" (recoverable {self.recoverable!r})" if self.recoverable else ""
        return f"{self.file}{whose} {self.reason}"


def write_checksums(folder: Path, unixtime: float) -> None:
    """Write size and checksum of every file in ``folder`` into its checksum file."""
    files = {name: _describe(folder / name) for name in _files_below(folder)}
    content = {"algorithm": "sha256", "files": files, "unixtime": unixtime}
    (folder / CHECKSUMS).write_text(_sealed(content), encoding="utf-8")


def find_damage(folder: Path) -> list[Damage]:
    """Compare the files in ``folder`` with its checksum file; return what differs.

    Without a checksum file nothing can be found. The same holds when SpeechBrain has saved over
    a folder of ours, which leaves our checksum file of the former save.
    """
    try:
        content = _read_checksums(folder / CHECKSUMS)
    except FileNotFoundError:
        return []
    except DamagedCheckpointError as error:
        return [Damage(folder / CHECKSUMS, str(error))]
    compared = [_compare(folder / name, saved) for name, saved in content["files"].items()]
    damages = [damage for damage in compared if damage is not None and not _may_be(damage)]
    return [] if _was_saved_over(folder, damages, content["unixtime"]) else damages


def require_whole_file(path: Path) -> None:
    """Raise DamagedCheckpointError unless ``path`` is what was saved in its checkpoint.

    Other files of the checkpoint are not read as long as this one is whole.
    """
    checksums = path.parent / CHECKSUMS
    try:
        saved = _read_checksums(checksums)["files"].get(path.name)
    except FileNotFoundError:
        return
    except DamagedCheckpointError as error:
        raise DamagedCheckpointError(f"{Damage(checksums, str(error))}.") from error
    damage = None if saved is None else _compare(path, saved)
    if damage is not None and damage in find_damage(path.parent):
        raise DamagedCheckpointError(f"{damage}.")


def _may_be(damage: Damage) -> bool:
    # To resume as SpeechBrain does, one deletes these files.
    return damage.is_missing and damage.file.suffix == RESUME_SUFFIX


def _was_saved_over(folder: Path, damages: list[Damage], unixtime: float) -> bool:
    # A meta file that is valid and newer is another save if its time differs by more than one
    # digit: a flipped bit changes one. Other files need not differ: nothing may have been trained
    # between the two saves.
    changed = {damage.file.name for damage in damages if not damage.is_missing}
    if METAFNAME not in changed:
        return False
    meta_file = folder / METAFNAME
    try:
        is_newer = read_meta(meta_file)["unixtime"] > unixtime
    except DamagedCheckpointError:
        return False
    return bool(is_newer and _has_another_time(meta_file, unixtime))


def _has_another_time(meta_file: Path, unixtime: float) -> bool:
    found = re.search(r"^unixtime: (.*)$", meta_file.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        return False
    digits = zip(found[1], str(unixtime), strict=False)
    return bool(sum(now != saved for now, saved in digits) > 1)


def _compare(path: Path, saved: dict[str, Any]) -> Damage | None:
    try:
        size = path.stat().st_size
        if size != saved["size"]:
            return Damage(path, f"has {size} bytes where {saved['size']} were saved")
        if _checksum(path) != saved["sha256"]:
            return Damage(path, "has other content than was saved (its checksum differs)")
    except FileNotFoundError:
        return Damage(path, "is missing", is_missing=True)
    except OSError as error:
        return Damage(path, f"cannot be read: {error.strerror}")
    return None


def _describe(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": _checksum(path)}


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _files_below(folder: Path) -> list[str]:
    found = (Path(path, file) for path, _, files in os.walk(folder) for file in files)
    return sorted(file.relative_to(folder).as_posix() for file in found)


def _sealed(content: dict[str, Any]) -> str:
    # The seal finds damage in the checksum file itself, in a file's name for instance.
    text = json.dumps(content, indent=1, sort_keys=True)
    seal = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(content | {"seal": seal}, indent=1, sort_keys=True) + "\n"


def _read_checksums(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedCheckpointError(f"cannot be read: {error.strerror}") from error
    try:
        content = json.loads(text)
        content.pop("seal")
        is_whole = _sealed(content).encode() == text
    except (ValueError, KeyError, AttributeError, TypeError):
        is_whole = False
    if not is_whole:
        raise DamagedCheckpointError("is not what was saved (delete it to load without checking)")
    return dict(content)
