"""In a terminal a run shows the lines that it shows under SpeechBrain, its bars included."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SPEED = re.compile(r"\[\d\d:\d\d(<[^,\]]*)?, *[^,\]]*")


def run(library: str, folder: Path) -> list[str]:
    """Return the lines that are left on the terminal of a run, without times and speeds."""
    folder.mkdir()
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = [sys.executable, "-W", "default", "-m", "tests.contract.terminal_runs"]
    done = subprocess.Popen(
        [*command, library, str(folder)], stdin=theirs, stdout=theirs, stderr=theirs, cwd=REPOSITORY
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # how a terminal ends on Linux
        pass
    finally:
        os.close(ours)
    assert done.wait() == 0, shown.decode()
    return [_left(line) for line in shown.decode().replace("\r\n", "\n").split("\n")]


def _left(line: str) -> str:
    """Return what the last carriage return leaves; a bar's width depends on its speed."""
    return re.sub(r"\|[^|]*\|", "||", SPEED.sub("[", line.rpartition("\r")[2]))


@pytest.mark.long
def test_lines_and_bars(tmp_path: Path) -> None:
    expected = run("speechbrain", tmp_path / "speechbrain")
    found = run("brain_lightning", tmp_path / "ours")
    assert found == expected
    assert "100%|| 5/5 [, train_loss=0.908]" in expected  # the bars are there
    assert sum(line.startswith("TRAIN") for line in expected) > 20
