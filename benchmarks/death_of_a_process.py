"""How long the other processes live on when one of them dies, and whether any is left over.

Run with OMP_NUM_THREADS=1::

    python benchmarks/death_of_a_process.py

Two, three and four processes train with gloo, or test, where they exchange nothing; one is killed,
raises, or leaves with ``os._exit``, at several steps. Each is started by itself, as a launcher does
it: those that the tests fork from a prepared one take twice as long to end. What a run writes goes
to a temporary folder that is deleted.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.distributed.processes import (
    Processes,
    clean_environment,
    free_port,
    torchrun_variables,
)

PATIENCE = 60.0
KINDS = ("kill", "raise", "os_exit", "kill_in_test", "raise_in_test")


def seconds_until_all_are_gone(kind: str, rank: int, count: int, step: int) -> float:
    """Return how much longer than the first process the last one lived."""
    port = free_port()
    environments = [
        clean_environment(**torchrun_variables(each, count, port)) for each in range(count)
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fault = [sys.executable, "-m", "tests.distributed.faults", kind, str(rank), str(step), name]
        processes = Processes.of_commands([fault] * count, environments, folder / "outputs")
        ends = list(_ends(processes.running))
        processes.wait(0)
    return ends[-1] - ends[0] if len(ends) == count else float("inf")


def _ends(running: list[subprocess.Popen[bytes]]) -> Iterator[float]:
    left = list(running)
    until = time.monotonic() + PATIENCE
    while left and time.monotonic() < until:
        for process in [each for each in left if each.poll() is not None]:
            left.remove(process)
            yield time.monotonic()
        time.sleep(0.01)


def main() -> None:
    print(f"{'what':<15}{'processes':>10}{'of them':>10}{'step':>6}{'seconds':>10}")
    for kind, count, step in itertools.product(KINDS, (2, 3, 4), (1, 7)):
        for rank in sorted({0, count - 1}):
            fault = f"{kind} {step}" if kind.endswith("_in_test") else kind
            seconds = seconds_until_all_are_gone(fault, rank, count, step)
            print(f"{kind:<15}{count:>10}{rank:>10}{step:>6}{seconds:>10.2f}", flush=True)


if __name__ == "__main__":
    main()
