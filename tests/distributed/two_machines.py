"""Two machines made of network namespaces, with a cable between them that can be pulled."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass


def why_not_here() -> str:
    """Why this machine cannot play two; empty when it can."""
    if shutil.which("ip") is None:
        return "there is no program ip (package iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need the rights of root"
    name = f"probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"no network namespace can be made: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", name], check=False)
    return ""


@dataclass(frozen=True)
class TwoMachines:
    """Their namespaces, addresses and the two ends of the cable."""

    names: tuple[str, str]
    addresses: tuple[str, str]
    ends: tuple[str, str]

    def command_on(self, machine: int, command: Sequence[str]) -> list[str]:
        """Return the command line that runs ``command`` on one of the machines."""
        return ["ip", "netns", "exec", self.names[machine], *command]

    def pull_the_cable(self) -> None:
        """Nothing reaches the other machine from now on, and nobody is told so."""
        for machine, end in enumerate(self.ends):
            _run(self.command_on(machine, ["ip", "link", "set", end, "down"]))


@contextmanager
def two_machines() -> Iterator[TwoMachines]:
    """Set up two machines on one network of their own, and take them down."""
    tag = f"{os.getpid() % 100000}"
    machines = TwoMachines(
        (f"machine-a-{tag}", f"machine-b-{tag}"),
        ("10.213.77.1", "10.213.77.2"),
        (f"bl{tag}a", f"bl{tag}b"),
    )
    with ExitStack() as stack:
        for name in machines.names:
            _run(["ip", "netns", "add", name])
            stack.callback(_run, ["ip", "netns", "delete", name])
        first, second = machines.ends
        _run(["ip", "link", "add", first, "type", "veth", "peer", "name", second])
        for machine, (name, end) in enumerate(zip(machines.names, machines.ends, strict=True)):
            _run(["ip", "link", "set", end, "netns", name])
            address = f"{machines.addresses[machine]}/24"
            _run(machines.command_on(machine, ["ip", "address", "add", address, "dev", end]))
            for device in (end, "lo"):
                _run(machines.command_on(machine, ["ip", "link", "set", device, "up"]))
        yield machines


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
