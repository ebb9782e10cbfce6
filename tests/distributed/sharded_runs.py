"""Starts the processes of ``sharded_saving`` and reads what they found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .processes import Outcome, run_ranks


class ShardedRun:
    """One phase of ``sharded_saving``, performed by some processes."""

    def __init__(self, folder: Path, phase: str, world_size: int) -> None:
        self._folder, self._phase = folder, phase
        self.outcome: Outcome = run_ranks(
            ["-m", "tests.distributed.sharded_saving", str(folder), phase],
            folder / f"outputs of {phase}",
            world_size=world_size,
            seconds=250,
        )

    def scenario(self, name: str, rank: int = 0) -> dict[str, Any]:
        """What a scenario of ``sharding`` found."""
        return self._read("found", name, rank)

    def found(self, name: str, rank: int = 0) -> dict[str, Any]:
        """What a check found."""
        return self._read(self._phase, name, rank)

    def _read(self, file: str, name: str, rank: int) -> dict[str, Any]:
        path = self._folder / f"{file}-{rank}.json"
        assert path.exists(), self.outcome.report()
        found: dict[str, Any] = json.loads(path.read_text()).get(name, {"error": "not reached"})
        assert "error" not in found, f"{found['error']}\n{self.outcome.report()}"
        return found
