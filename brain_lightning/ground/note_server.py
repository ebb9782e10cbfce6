"""A place on the network where processes leave short notes, and how they are reached.

Nobody is waited for longer than a moment: it is used when a process may be gone or stopped.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

A_MOMENT = 1.0
"""Seconds within which a process that lives answers."""

_LONGEST = 1 << 20


class NoteServer:
    """Keeps notes by their keys, in a thread of its own, for those that know the password."""

    def __init__(self, password: str, tell: Callable[[str], None]) -> None:
        """Listen on a free port; ``tell`` is called with the key of each new note."""
        self._password = password
        self._tell = tell
        self.notes: dict[str, dict[str, Any]] = {}
        self._socket = _listen_on_a_free_port()
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, name="notes of failures", daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed, with the process
                return
            with connection:
                try:
                    connection.settimeout(A_MOMENT)
                    answer = self._answer(json.loads(_receive(connection)))
                    connection.sendall(json.dumps(answer).encode() + b"\n")
                except (OSError, ValueError):  # not one of ours, or it is gone already
                    continue

    def _answer(self, request: Any) -> dict[str, Any]:
        if not isinstance(request, dict) or request.get("password") != self._password:
            raise ValueError("this request is none of ours")
        self.keep(request.get("notes", {}))
        return self.notes

    def keep(self, notes: dict[str, dict[str, Any]]) -> None:
        """Add notes."""
        # A new dictionary: others may be going through the old one.
        self.notes = {**self.notes, **notes}
        for key in notes:
            self._tell(key)


def _listen_on_a_free_port() -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError:  # compiled in, but switched off on this machine
            pass
    return socket.create_server(("", 0))


def leave_notes(address: str, port: int, password: str, notes: dict[str, dict[str, Any]]) -> None:
    """Leave notes at a server; when it does not answer there is nobody to tell."""
    try:
        with socket.create_connection((address, port), timeout=A_MOMENT) as connection:
            request = {"password": password, "notes": notes}
            connection.sendall(json.dumps(request).encode() + b"\n")
            _receive(connection)
    except (OSError, ValueError):
        return


def _receive(connection: socket.socket) -> bytes:
    """Return what comes before the end of the line."""
    content = b""
    while not content.endswith(b"\n"):
        part = connection.recv(65536)
        content += part
        if not part or len(content) > _LONGEST:
            raise ValueError("this is no request of ours")
    return content
