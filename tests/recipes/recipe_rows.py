"""The rows of recipes.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
SPEECH = HERE.parents[2] / "shared" / "speech"


@dataclass(frozen=True)
class Row:
    """One recipe: a script, its arguments, and what a run must leave behind."""

    name: str
    steps: int
    """How many lines of the record there must be at least."""
    kind: str = ""
    script: str = ""
    hparams: str = ""
    arguments: tuple[str, ...] = ()
    runs: int = 1
    """Run so often in the same folder; each run recovers what the one before it saved."""
    exit_status: tuple[int, ...] = (0,)
    """Of each run."""
    processes: int = 1
    """More than one: under torchrun."""
    needs_speech: bool = False
    long: bool = False
    files: tuple[str, ...] = ()
    """Patterns of files, below the folder of the run."""
    log: tuple[str, ...] = ()
    """Patterns of lines in train_log.txt."""

    def expected_exits(self) -> list[int]:
        """The exit status of each run."""
        return list(self.exit_status) * (self.runs if len(self.exit_status) == 1 else 1)

    def require_speech(self) -> None:
        """Skip the test that runs this where the clips are not there."""
        if self.needs_speech and not SPEECH.is_dir():
            pytest.skip(f"the clips are not in {SPEECH}")

    def command_line(self) -> list[str]:
        """The recipe's own command line."""
        scripts = HERE / "scripts"
        hparams = [] if self.hparams == "none" else [self.hparams or f"{self.name}.yaml"]
        speech = ["--data_folder", str(SPEECH)] if self.needs_speech else []
        return [
            str(scripts / (self.script or f"{self.name}.py")),
            *(str(scripts / file) for file in hparams),
            *speech,
            *self.arguments,
        ]


def read_rows() -> list[Row]:
    """Read the table."""
    content: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "recipes.yaml").read_text())
    return [_row(name, values) for name, values in content.items()]


def _row(name: str, values: dict[str, Any]) -> Row:
    as_tuples = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    row = Row(name=name, **as_tuples)
    assert len(row.exit_status) in (1, row.runs), f"{name}: one exit status for each run"
    return row
