"""Folders that are there whole or not at all, whatever happens while they are written or deleted.

A folder is written beside its place, under a hidden name, made durable and renamed. What a killed
process leaves behind has one of three hidden names, and :func:`settle` tidies up: it finishes what
was decided (a replacement whose new folder was complete, a deletion) and drops what was not.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

SAVING, REPLACED, DELETING = "saving", "replaced", "deleting"
_LEFT_OVER = re.compile(rf"\.(?P<name>.+)\.(?:{SAVING}|{REPLACED}|{DELETING})")

_PATIENCE = 30.0
"""Seconds to wait for others that tidy up; then they are taken for hung."""


def hidden_name(target: Path, role: str) -> Path:
    """Where the folder ``target`` is while it is being saved, replaced or deleted.

    The name starts with a dot, so neither SpeechBrain nor we take it for a checkpoint.
    """
    return target.parent / f".{target.name}.{role}"


class FolderInTheMaking:
    """A folder that gets its name only when it is complete.

    Write into :attr:`path`, then call :meth:`publish` or :meth:`discard`.
    """

    def __init__(self, target: Path) -> None:
        """Create the hidden folder.

        Raises:
            OSError: it cannot be created; FileExistsError when another process is writing it.
        """
        self.target = target
        self.path = hidden_name(target, SAVING)
        os.makedirs(target.parent, exist_ok=True)
        with _alone_in(target.parent):  # nobody takes it for left over before it is locked
            os.mkdir(self.path)
            self._lock: int | None = _lock(self.path)

    def publish(self) -> None:
        """Make the content durable and give the folder its name, in place of one that had it."""
        make_durable(self.path)
        replaced = hidden_name(self.target, REPLACED)
        if os.path.lexists(self.target):
            os.rename(self.target, replaced)
        try:
            os.rename(self.path, self.target)
        except BaseException:
            if os.path.lexists(replaced):
                os.rename(replaced, self.target)
            raise
        flush_folder(self.target.parent)
        self._unlock()
        remove_tree(replaced)

    def discard(self) -> None:
        """Remove what has been written so far."""
        self._unlock()
        remove_tree(self.path)

    def _unlock(self) -> None:
        if self._lock is not None:
            _unlock(self._lock)
            self._lock = None


def delete_folder(target: Path) -> None:
    """Delete a folder so that it is seen whole until it is not seen at all.

    Raises:
        OSError: it cannot be deleted. Where nothing in it could be, it stays.
    """
    hidden = hidden_name(target, DELETING)
    remove_tree(hidden)
    try:
        os.rename(target, hidden)
    except FileNotFoundError:
        return
    flush_folder(target.parent)
    before = _names_below(hidden)
    try:
        remove_tree(hidden)
    except OSError:
        if _names_below(hidden) == before:  # somebody has write-protected it
            os.rename(hidden, target)
        raise


def _names_below(folder: Path) -> list[str]:
    return sorted(os.path.join(path, name) for path, _, files in os.walk(folder) for name in files)


def settle(parent: Path) -> list[Path]:
    """Finish or drop what killed saves and deletes left in ``parent``; return what was found.

    What a living process is writing right now is left alone.
    """
    matches = [_LEFT_OVER.fullmatch(entry) for entry in sorted(os.listdir(parent))]
    left_overs = [match for match in matches if match is not None]
    if left_overs:
        with _alone_in(parent):
            for name in sorted({match["name"] for match in left_overs}):
                _settle_one(parent / name)
        flush_folder(parent)
    return [parent / match.string for match in left_overs]


def _settle_one(target: Path) -> None:
    saving, replaced = hidden_name(target, SAVING), hidden_name(target, REPLACED)
    with _unless_in_use(saving) as free:
        if not free:
            return
        if os.path.lexists(replaced) and not os.path.lexists(target):
            # Killed between the two renames: by then the new folder was complete and durable.
            os.rename(saving if saving.is_dir() else replaced, target)
            flush_folder(target.parent)
        for role in (SAVING, REPLACED, DELETING):
            remove_tree(hidden_name(target, role))


@contextmanager
def _unless_in_use(folder: Path) -> Iterator[bool]:
    """Hold ``folder`` while tidying up; yields False when a living process holds it."""
    if not folder.is_dir():
        yield True
        return
    try:
        handle = _lock(folder)
    except BlockingIOError:
        yield False
        return
    except FileNotFoundError:  # it has got its name meanwhile
        handle = None
    try:
        yield True
    finally:
        if handle is not None:
            _unlock(handle)


@contextmanager
def _alone_in(parent: Path) -> Iterator[None]:
    """Keep others from creating folders or tidying up in ``parent``, which they do quickly."""
    handle = None
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            handle = _lock(parent)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.005)
                continue
        break
    try:
        yield
    finally:
        if handle is not None:
            _unlock(handle)


def _lock(folder: Path) -> int | None:
    """Lock a folder; None where that is not possible, and then nobody is seen to be writing.

    The kernel drops the lock when the process dies, however it dies.

    Raises:
        BlockingIOError: somebody else holds it.
    """
    if sys.platform == "win32":
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            raise
        return None  # a file system without locks
    return handle


def _unlock(handle: int) -> None:
    # Closing alone would not do: a data loader's worker may have inherited the handle.
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def make_durable(folder: Path) -> None:
    """Flush every file and folder below ``folder``, and itself, to the disk."""
    for path, _, files in os.walk(folder, topdown=False):
        for file in files:
            flush_file(os.path.join(path, file))
        flush_folder(Path(path))


def flush_folder(folder: Path) -> None:
    """Flush the list of names in a folder to the disk."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        flush_file(folder)


def flush_file(path: str | Path) -> None:
    """Flush a file's content to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_tree(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it; nothing if it is not there."""
    if path.is_symlink() or not path.is_dir():
        with suppress(FileNotFoundError):
            os.unlink(path)
        return
    with suppress(FileNotFoundError):  # somebody else is tidying up too
        for entry in sorted(os.listdir(path)):
            remove_tree(path / entry)
        os.rmdir(path)
