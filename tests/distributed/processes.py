"""Starts the processes of a test, waits for them within a time limit, shows their output."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .forked_program import ROOT, ForkedProgram

# What a launcher or a cluster sets, which must not reach a test from the machine that it runs on.
LAUNCHER_PREFIXES = ("SLURM_", "OMPI_", "TORCHELASTIC_", "JSM_")
LAUNCHER_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "NODE_RANK",
    "GROUP_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
)


@dataclass(frozen=True)
class Outcome:
    """How the processes ended."""

    codes: list[int | None]
    """Exit statuses; None for one that had to be killed when the time was over."""
    outputs: list[str]
    seconds: float
    """From the start until the last one had ended."""

    def report(self) -> str:
        """Everything that every process said."""
        parts = [
            f"===== process {rank}: exit status {code}\n{output[-6000:]}"
            for rank, (code, output) in enumerate(zip(self.codes, self.outputs, strict=True))
        ]
        return "\n".join([f"after {self.seconds:.1f} s", *parts])

    def require_success(self) -> None:
        """Fail, showing all outputs, unless every process ended with 0."""
        assert all(code == 0 for code in self.codes), self.report()


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without a launcher's variables, and with ``more``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in LAUNCHER_VARIABLES and not name.startswith(LAUNCHER_PREFIXES)
    }
    folders = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(folders), **more}


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def torchrun_variables(rank: int, world_size: int, port: int, nodes: int = 1) -> dict[str, str]:
    """What torchrun sets for one of ``world_size`` processes on ``nodes`` machines."""
    local_size = world_size // nodes
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank % local_size),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(local_size),
        "GROUP_RANK": str(rank // local_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


class Processes:
    """Processes that run beside the test."""

    def __init__(
        self, command: Sequence[str], environments: Sequence[Mapping[str, str]], folder: Path
    ) -> None:
        """Start ``python command`` once for each environment; outputs go to files in ``folder``.

        A module of the tests is forked from a process in which everything is imported.
        """
        self._start([[sys.executable, "-u", *command]] * len(environments), environments, folder)

    @classmethod
    def of_commands(
        cls,
        commands: Sequence[Sequence[str]],
        environments: Sequence[Mapping[str, str]],
        folder: Path,
    ) -> Processes:
        """Start each command with its environment."""
        processes = cls.__new__(cls)
        processes._start(commands, environments, folder)
        return processes

    def _start(
        self,
        commands: Sequence[Sequence[str]],
        environments: Sequence[Mapping[str, str]],
        folder: Path,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._started = time.monotonic()
        self._files = [folder / f"output-{rank}.txt" for rank in range(len(environments))]
        self.running = [
            _started(command, environment, file)
            for command, environment, file in zip(commands, environments, self._files, strict=True)
        ]

    def wait(self, seconds: float, after_the_first: float | None = None) -> Outcome:
        """Wait until all have ended; kill those (and their children) that take longer.

        Args:
            seconds: since the start.
            after_the_first: how much longer to wait once one has ended; None: no limit of its own.
        """
        until = self._started + seconds
        while time.monotonic() < until and any(each.poll() is None for each in self.running):
            if after_the_first is not None and any(
                each.poll() is not None for each in self.running
            ):
                until = min(until, time.monotonic() + after_the_first)
                after_the_first = None
            time.sleep(0.05)
        codes = [process.poll() for process in self.running]
        taken = time.monotonic() - self._started
        for process, code in zip(self.running, codes, strict=True):
            if code is None:
                # Its end may have been seen by the server only, in this moment.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        outputs = [file.read_text(errors="replace") for file in self._files]
        return Outcome(codes, outputs, taken)


def _started(
    command: Sequence[str], environment: Mapping[str, str], file: Path
) -> subprocess.Popen[bytes] | ForkedProgram:
    is_of_tests = command[:3] == [sys.executable, "-u", "-m"] and command[3].startswith("tests.")
    # Where other packages are found, others are imported.
    if is_of_tests and environment["PYTHONPATH"] == clean_environment()["PYTHONPATH"]:
        return ForkedProgram(command[3:], environment, file)
    with file.open("w") as output:
        return subprocess.Popen(
            list(command),
            env=dict(environment),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def run_ranks(
    command: Sequence[str],
    folder: Path,
    world_size: int = 2,
    seconds: float = 120,
    nodes: int = 1,
    after_the_first: float | None = None,
    **more: str,
) -> Outcome:
    """Run ``python command`` in ``world_size`` processes as torchrun would, and wait for them."""
    port = free_port()
    environments = [
        clean_environment(**torchrun_variables(rank, world_size, port, nodes), **more)
        for rank in range(world_size)
    ]
    return Processes(command, environments, folder).wait(seconds, after_the_first)
