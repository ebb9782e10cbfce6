"""Where a process that goes leaves word why, for those that wait for it."""

from __future__ import annotations

import datetime
import json
import os
import socket
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from brain_lightning.ground.errors import OtherProcessError

PATIENCE = 2.0
"""Seconds to wait for word of the others, once the connection to one of them is lost."""

_CONNECT = datetime.timedelta(seconds=2)


@dataclass(frozen=True)
class Member:
    """A process of the group, as the others know it."""

    host: str
    pid: int
    address: str
    port: int | None
    """Of its board; None when it has none."""
    session: str
    """Of the main process: a name for the life of this group."""


@dataclass(frozen=True)
class Note:
    """What a process left behind."""

    cause: str
    """Empty when it only lost the connection to another one."""
    where: str


class FailureBoard:
    """Notes of the processes of a group, kept by two of them in case one is gone.

    Made by all processes together. Nothing is sent as long as nothing fails.
    """

    def __init__(self) -> None:
        """Open a board where this process keeps one, and learn where the others are."""
        self.rank = torch.distributed.get_rank()
        self._store = _open_store() if self.rank < 2 else None
        address = socket.gethostname()
        if self.rank == 0:
            address = os.environ.get("MASTER_ADDR", address)
        port = None if self._store is None else self._store.port
        own = Member(socket.gethostname(), os.getpid(), address, port, uuid.uuid4().hex)
        members: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(members, own)
        self.members: list[Member] = members

    def leave(self, run: int, note: Note) -> None:
        """Leave a note about the ``run``-th run of the processes."""
        for store in self._stores():
            store.set(f"{run}/{self.rank}", json.dumps(asdict(note)))

    def explain(self, run: int, where: str) -> str:
        """Return who brought down a run in which the connection to another process was lost.

        Waits a little for the others' notes.
        """
        self.leave(run, Note("", where))
        until = time.monotonic() + PATIENCE
        notes: dict[int, Note] = {}
        while time.monotonic() < until and len(notes) < len(self.members):
            notes = self._notes(run)
            causes = {rank: note for rank, note in notes.items() if note.cause}
            if causes:
                rank = min(causes)
                return f"process {rank} failed at {causes[rank].where}: {causes[rank].cause}"
            time.sleep(0.05)
        return self._suspects(notes, where)

    def _suspects(self, notes: dict[int, Note], where: str) -> str:
        silent = [rank for rank in range(len(self.members)) if rank not in notes]
        gone = [rank for rank in silent if self._is_gone(rank)]
        if gone:
            return f"process {_listed(gone)} is gone, at {where} (killed, or it called exit)"
        if silent:
            return (
                f"process {_listed(silent)} did not come to {where}: it is stopped, its loader "
                "hangs, or the network to it is cut"
            )
        return f"the connection between the processes was lost at {where}"

    def _is_gone(self, rank: int) -> bool:
        member = self.members[rank]
        if member.host != socket.gethostname():
            return False
        try:
            os.kill(member.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return _is_zombie(member.pid)

    def _notes(self, run: int) -> dict[int, Note]:
        notes = {}
        for store in self._stores():
            for rank in range(len(self.members)):
                key = f"{run}/{rank}"
                if store.check([key]):
                    notes[rank] = Note(**json.loads(store.get(key)))
        return notes

    def _stores(self) -> list[Any]:
        """The boards that can be reached, this process's own among them."""
        stores = []
        for rank, member in enumerate(self.members[:2]):
            if rank == self.rank:
                stores.append(self._store)
            elif member.port is not None and not self._is_gone(rank):
                try:
                    stores.append(
                        TCPStore(member.address, member.port, is_master=False, timeout=_CONNECT)
                    )
                except (RuntimeError, OSError):  # torch's network errors are RuntimeErrors
                    continue
        return stores


def is_connection_error(error: BaseException) -> bool:
    """Tell whether an error says that another process is not there, and nothing more."""
    if isinstance(error, torch.distributed.DistError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)


_SIGNS = ("gloo", "Connection closed by peer", "Connection reset by peer", "Timed out waiting")

_board: tuple[object, FailureBoard] | None = None


def failure_board() -> FailureBoard:
    """Return the board of the process group; every process must ask for it together."""
    global _board
    world = torch.distributed.group.WORLD
    if _board is None or _board[0] is not world:
        _board = (world, FailureBoard())
    return _board[1]


def session_of_group() -> str | None:
    """Return a name that only this group of processes has, or None before a board was made."""
    return None if _board is None else _board[1].members[0].session


def lost(reason: str) -> OtherProcessError:
    """Make the error of a process that cannot go on because of another one."""
    rank = torch.distributed.get_rank()
    return OtherProcessError(f"Process {rank} cannot go on: {reason}.")


def _open_store() -> Any:
    return TCPStore("localhost", 0, is_master=True, wait_for_workers=False, timeout=_CONNECT)


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and only waits to be asked for its exit status (Linux)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def _listed(ranks: list[int]) -> str:
    return " and ".join(map(str, ranks))
