"""Two machines of two processes each, and what happens when the network between them is cut."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .processes import Outcome, Processes, clean_environment, torchrun_variables
from .test_faults import require_checkpoint
from .two_machines import TwoMachines, two_machines, why_not_here

REASON = why_not_here()
pytestmark = [
    pytest.mark.skipif(bool(REASON), reason=f"two machines cannot be played here: {REASON}"),
    pytest.mark.timeout(150),
]
PORT = 29411


@pytest.fixture
def machines() -> Iterator[TwoMachines]:
    with two_machines() as pair:
        yield pair


def start(machines: TwoMachines, folder: Path, kind: str, step: int) -> Processes:
    commands, environments = [], []
    for rank in range(4):
        machine = rank // 2
        # Each machine has a disk of its own.
        own_folder = folder / f"machine-{machine}"
        own_folder.mkdir(exist_ok=True)
        fault = ["-u", "-m", "tests.distributed.faults", kind, "3", str(step), str(own_folder)]
        commands.append(machines.command_on(machine, [sys.executable, *fault]))
        variables = torchrun_variables(rank, 4, PORT, nodes=2)
        variables["MASTER_ADDR"] = machines.addresses[0]
        environments.append(
            clean_environment(
                **variables,
                GLOO_SOCKET_IFNAME=machines.ends[machine],
                BRAIN_LIGHTNING_TIMEOUT="3",
            )
        )
    return Processes.of_commands(commands, environments, folder / "outputs")


def wait_for_step(folder: Path, rank: int, step: int, running: Processes) -> None:
    until = time.monotonic() + 60
    file = folder / f"machine-{rank // 2}" / f"step-{rank}"
    while not (file.exists() and int(file.read_text() or 0) >= step):
        assert time.monotonic() < until, running.wait(0).report()
        time.sleep(0.01)


def test_the_network_is_cut(machines: TwoMachines, tmp_path: Path) -> None:
    running = start(machines, tmp_path, "none", 0)
    wait_for_step(tmp_path, 0, 6, running)
    machines.pull_the_cable()
    cut = time.monotonic()
    outcome = running.wait(100)
    assert outcome.codes == [1, 1, 1, 1], outcome.report()
    # The time-out, and some more to say why.
    assert time.monotonic() - cut < 30, outcome.report()
    require_named(outcome, "process 2 and 3 did not come to step .* the network to it is cut", 0, 1)
    require_named(outcome, "process 0 and 1 did not come to step .* the network to it is cut", 2, 3)
    require_checkpoint(tmp_path / "machine-0")


@pytest.mark.long
def test_a_process_of_the_other_machine_fails(machines: TwoMachines, tmp_path: Path) -> None:
    outcome = start(machines, tmp_path, "raise", 5).wait(100, after_the_first=20)
    assert outcome.codes == [1, 1, 1, 1], outcome.report()
    require_named(outcome, "process 3 failed at step 5 .*: ValueError: the data of this", 0, 1, 2)


def require_named(outcome: Outcome, message: str, *ranks: int) -> None:
    for rank in ranks:
        said = re.findall("OtherProcessError: (.*)", outcome.outputs[rank])
        assert said, outcome.report()
        assert re.search(message, said[-1]), outcome.report()
