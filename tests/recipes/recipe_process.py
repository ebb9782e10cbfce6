"""Runs a recipe as a process of its own, natively or under `brain-lightning run`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .recipe_rows import Row

NATIVE = ()
OURS = ("-m", "brain_lightning", "run")


@dataclass
class Outcome:
    """What a recipe left behind."""

    folder: Path
    seconds: float
    exit_status: list[int] = field(default_factory=list)
    output: str = ""

    @property
    def steps(self) -> list[str]:
        """The lines that the recipe recorded."""
        files = sorted(self.folder.glob("steps.txt.*"))  # one for each process
        return [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def run_both(
    row: Row, folder: Path, first_on_path: tuple[Path, ...] = ()
) -> tuple[Outcome, Outcome]:
    """Run natively and under ours, side by side."""
    with ThreadPoolExecutor(2) as pool:
        native = pool.submit(run_recipe, row, NATIVE, folder / "native", first_on_path)
        ours = pool.submit(run_recipe, row, OURS, folder / "ours", first_on_path)
        return native.result(), ours.result()


def run_recipe(
    row: Row, how: tuple[str, ...], folder: Path, first_on_path: tuple[Path, ...] = ()
) -> Outcome:
    """Run a recipe as often as its row says; ``first_on_path`` holds other packages to import."""
    folder.mkdir(parents=True)
    started = time.monotonic()
    outcome = Outcome(folder, 0.0)
    for _ in range(row.runs):
        process = subprocess.run(
            [sys.executable, *launcher(row), *how, *row.command_line()],
            cwd=folder,
            env=environment(folder, first_on_path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
        )
        outcome.exit_status.append(process.returncode)
        outcome.output += process.stdout
    outcome.seconds = time.monotonic() - started
    return outcome


def launcher(row: Row) -> list[str]:
    """What starts several processes."""
    if row.processes == 1:
        return []
    torchrun = ["-m", "torch.distributed.run", "--standalone"]
    return [*torchrun, f"--nproc_per_node={row.processes}"]


def environment(folder: Path, first_on_path: tuple[Path, ...] = ()) -> dict[str, str]:
    """One thread, and the recipe's record."""
    path = [*map(str, first_on_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        **({"PYTHONPATH": os.pathsep.join(path)} if path else {}),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "RECIPE_RECORD": str(folder / "steps.txt"),
    }
