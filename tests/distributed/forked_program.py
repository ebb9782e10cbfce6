"""A program that is forked from ``program_server.py``, with the interface of ``Popen``."""

from __future__ import annotations

import atexit
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import Pipe
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class ForkedProgram:
    """``python -m MODULE ARGUMENT...``, in a session of its own."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], output: Path
    ) -> None:
        """Start it in the root of the checkout; both its outputs go to a file."""
        self._server = _server()
        self._number = self._server.start(arguments, environment, output)
        self.pid = self._server.pid(self._number)

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        return self._server.status(self._number)

    def wait(self) -> int:
        """Wait for the end."""
        while (status := self.poll()) is None:
            time.sleep(0.01)
        return status


class _Server:
    """The server of this process."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.distributed.program_server", str(theirs.fileno())],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._numbers = itertools.count()
        self._pids: dict[int, int] = {}
        self._statuses: dict[int, int] = {}
        atexit.register(self._end)

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], output: Path) -> int:
        number = next(self._numbers)
        request = (number, list(arguments), dict(environment), str(ROOT), str(output))
        self._connection.send(request)
        return number

    def pid(self, number: int) -> int:
        while number not in self._pids:
            self._receive()
        return self._pids[number]

    def status(self, number: int) -> int | None:
        while self._connection.poll():
            self._receive()
        return self._statuses.get(number)

    def _receive(self) -> None:
        number, pid, status = self._connection.recv()
        self._pids[number] = pid
        if status is not None:
            self._statuses[number] = status

    def _end(self) -> None:
        self._connection.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # a busy machine; nobody needs it any more
            self._process.kill()
            self._process.wait()


_server = cache(_Server)
