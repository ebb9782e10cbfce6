"""Where a process that goes leaves word why, for those that wait for it."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from brain_lightning.ground.errors import OtherProcessError
from brain_lightning.ground.joint_decision import cpu_group
from brain_lightning.ground.note_server import NoteServer, leave_notes
from brain_lightning.ground.process_group import get_timeout
from brain_lightning.ground.ranks import ddp_prevent_block

PATIENCE = 2.0
"""Seconds to wait for word of the others, once the connection to one of them is lost."""

GRACE = 30.0
"""Seconds that a process gets to end a run by itself, once another one has failed in it; fewer when
processes wait less for one another (``get_timeout``)."""


LOOKS = 0.25
"""Seconds between two looks at the others, where nothing else tells that one of them has gone.

The second look that misses it ends the process, which takes a third of a second itself: within one
second all are gone.
"""


class OthersMissed(RuntimeError):
    """Another process has failed, or is gone, as a look has shown."""


@dataclass(frozen=True)
class Member:
    """A process of the group, as the others know it."""

    process_space: str
    """Where ``pid`` means something: see ``_process_space``."""
    pid: int
    address: str
    port: int
    """Of its server for notes."""


@dataclass(frozen=True)
class Note:
    """What a process left behind."""

    cause: str
    """Empty when it only lost the connection to another one."""
    where: str


class FailureBoard:
    """Notes of the processes of a group; each process has a copy.

    Made by all processes together. Nothing is sent as long as nothing fails.
    """

    def __init__(self) -> None:
        """Keep notes, and learn where the others are."""
        self.rank = torch.distributed.get_rank()
        cpu_group()  # while all are there: they meet in it at the end of the run
        name = [uuid.uuid4().hex]
        torch.distributed.broadcast_object_list(name)
        self.session: str = name[0]
        self._runs: list[int] = []
        self._runs_begun = 0
        self._next_look = 0.0
        self._missed: frozenset[int] = frozenset()
        self._server = NoteServer(self.session, self._be_told)
        own = Member(_process_space(), os.getpid(), _own_address(self.rank), self._server.port)
        members: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(members, own)
        self.members: list[Member] = members

    @contextmanager
    def run(self) -> Iterator[int]:
        """Number a run, which all processes begin together; runs may be nested."""
        self._runs_begun += 1
        number = self._runs_begun
        self._runs.append(number)
        try:
            yield number
        finally:
            self._runs.remove(number)

    @property
    def is_in_run(self) -> bool:
        """Whether a run has begun that has not ended."""
        return bool(self._runs)

    def look(self) -> None:
        """See whether the others are there yet, in a run that nobody leaves before all are done.

        For stretches in which processes exchange nothing. Who is missed is given until the next
        look: what all processes come to, such as a file that is not there, each says itself.

        Raises:
            OthersMissed: at least one has failed in this run, or is gone.
        """
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOKS
        failed = {rank for rank, note in self._notes(self._runs[-1]).items() if note.cause}
        gone = {rank for rank in range(len(self.members)) if self._is_gone(rank)}
        missed = frozenset((failed | gone) - {self.rank})
        if missed & self._missed:
            raise OthersMissed(f"process {_listed(sorted(missed))} has left the run")
        self._missed = missed

    def leave(self, run: int, note: Note) -> None:
        """Leave a note about a run with every process."""
        notes = {f"{run}/{self.rank}": asdict(note)}
        self._server.keep(notes)
        with ThreadPoolExecutor(max_workers=32) as pool:
            for rank, member in enumerate(self.members):
                if rank != self.rank and not self._is_gone(rank):
                    pool.submit(leave_notes, member.address, member.port, self.session, notes)

    def _be_told(self, key: str) -> None:
        """A note has come: in a while this process must have ended the run by itself."""
        of_run, _, rank = key.partition("/")
        if int(rank) != self.rank:
            grace = min(GRACE, get_timeout().total_seconds())
            timer = threading.Timer(grace, self._end_the_process, (int(of_run), int(rank)))
            timer.daemon = True
            timer.start()

    def _end_the_process(self, run: int, rank: int) -> None:
        """End this process, should it still wait for one that has gone, or hang otherwise."""
        if run not in self._runs:
            return
        cause = Note(**self._server.notes[f"{run}/{rank}"])
        reason = f"process {rank} failed at {cause.where}: {cause.cause}"
        if not cause.cause:
            reason = f"process {rank} has given up waiting for it at {cause.where}"
        sys.stderr.write(f"Process {self.rank} is ended: {reason}.\n")
        sys.stderr.flush()
        os._exit(1)  # the main thread cannot be reached where it is

    def explain(self, run: int, where: str) -> str:
        """Return who brought down a run in which the connection to another process was lost.

        Waits a little for the others' notes.
        """
        self.leave(run, Note("", where))
        until = time.monotonic() + PATIENCE
        while True:
            # First: who is gone has left its note before.
            gone = {rank for rank in range(len(self.members)) if self._is_gone(rank)}
            notes = self._notes(run)
            causes = {rank: note for rank, note in notes.items() if note.cause}
            if causes:
                rank = min(causes)
                return f"process {rank} failed at {causes[rank].where}: {causes[rank].cause}"
            is_known = bool(gone - notes.keys()) or len(notes) == len(self.members)
            if is_known or time.monotonic() > until:
                return self._suspects(notes, where)
            time.sleep(0.05)

    def _suspects(self, notes: dict[int, Note], where: str) -> str:
        silent = [rank for rank in range(len(self.members)) if rank not in notes]
        gone = [rank for rank in silent if self._is_gone(rank)]
        if gone:
            return f"process {_listed(gone)} is gone, at {where} (killed, or at its end)"
        if silent:
            return (
                f"process {_listed(silent)} did not come to {where}: it is stopped, its loader "
                "hangs, or the network to it is cut"
            )
        return f"the connection between the processes was lost at {where}"

    def _is_gone(self, rank: int) -> bool:
        member = self.members[rank]
        if member.process_space != _process_space():
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
        for key, content in self._server.notes.items():
            of_run, _, rank = key.partition("/")
            if int(of_run) == run:
                notes[int(rank)] = Note(**content)
        return notes


_SIGNS = ("gloo", "Connection closed by peer", "Connection reset by peer", "Timed out waiting")


def is_connection_error(error: BaseException) -> bool:
    """Tell whether an error says that another process is not there, and nothing more."""
    if isinstance(error, (torch.distributed.DistError, OthersMissed)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)


_board: tuple[object, FailureBoard] | None = None


def failure_board() -> FailureBoard:
    """Return the board of the process group; every process must ask for it together."""
    global _board
    world = torch.distributed.group.WORLD
    if _board is None or _board[0] is not world:
        _board = (world, FailureBoard())
    return _board[1]


def board_in_use() -> FailureBoard | None:
    """Return the board of the run that all processes are in together, or None."""
    if _board is None or ddp_prevent_block() or not _board[1].is_in_run:
        return None
    return _board[1]


def session_of_group() -> str | None:
    """Return a name that only this group of processes has, or None before a board was made."""
    return None if _board is None else _board[1].session


def lost(reason: str) -> OtherProcessError:
    """Make the error of a process that cannot go on because of another one."""
    rank = torch.distributed.get_rank()
    return OtherProcessError(f"Process {rank} cannot go on: {reason}.")


def _process_space() -> str:
    """Return a name for what shares process numbers with this process.

    The machine's name alone is not enough: containers on one machine may have the same.
    """
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _own_address(rank: int) -> str:
    """Return where the others find this process: it is on the network that they came together on.

    The name of a machine is not always one that the other machines can look up.
    """
    main = os.environ.get("MASTER_ADDR")
    if main is None:
        return socket.gethostname()
    if rank == 0:
        return main
    port = int(os.environ.get("MASTER_PORT", "1"))
    try:
        kind = socket.getaddrinfo(main, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(kind[0], socket.SOCK_DGRAM) as unsent:
            unsent.connect(kind[4])  # sends nothing; chooses the way
            return str(unsent.getsockname()[0])
    except OSError:
        return socket.gethostname()


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and only waits to be asked for its exit status (Linux)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def _listed(ranks: list[int]) -> str:
    return " and ".join(map(str, ranks))
