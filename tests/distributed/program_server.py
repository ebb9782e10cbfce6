"""Imports what the programs of the tests need, and turns a fork of itself into each of them.

Importing torch, Lightning and SpeechBrain takes a process five seconds, longer than most of the
programs take for the rest. What a fork does begins and ends as ``python -m MODULE`` does:
arguments, environment, folder, ``__main__``, outputs, session, exception hook and the
interpreter's end.

Order of calls, by ``forked_program.py``: requests come over a connection, whose descriptor is the
only argument: ``(number, arguments, environment, folder, output)``. For each, ``(number, pid)`` is
sent, and ``(number, pid, status)`` when it has ended. The server ends with the connection.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection

import lightning.pytorch  # noqa: F401
import speechbrain  # noqa: F401
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

import brain_lightning.engine.brain_module
import brain_lightning.facade.brain  # noqa: F401

# How often the server looks whether a program has ended.
SECONDS = 0.02


def serve(connection: Connection) -> tuple[Sequence[str], Mapping[str, str]] | None:
    """Fork for each request; return its arguments and environment in the fork, None at the end."""
    running: dict[int, int] = {}
    while True:
        try:
            requested = connection.poll(SECONDS if running else None)
            request = connection.recv() if requested else None
        except EOFError:
            return None
        if request is not None:
            number, arguments, environment, folder, output = request
            pid = os.fork()
            if pid == 0:
                connection.close()
                _leave(folder, output)
                return arguments, environment
            running[pid] = number
            connection.send((number, pid, None))
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                connection.send((running.pop(pid), pid, os.waitstatus_to_exitcode(status)))


def _leave(folder: str, output: str) -> None:
    """Have a session, a folder and outputs of its own."""
    os.setsid()
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDONLY)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
    for source, target in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(written)


def become(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run ``python -m ARGUMENTS`` with an environment."""
    os.environ.clear()
    os.environ.update(environment)
    # Lightning looks for it when it is imported.
    rank_zero_only.rank = int(environment.get("RANK") or environment.get("SLURM_PROCID") or 0)
    module, *rest = arguments
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    # A forked process would wait for the threads of its parent, which it does not have.
    torch.set_num_threads(1)
    asked_for = serve(Connection(int(sys.argv[1])))
    if asked_for is not None:
        become(*asked_for)
