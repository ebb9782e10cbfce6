"""The progress bar, as a terminal, a notebook and a log file show it."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import textwrap
import types
from typing import Any

import pytest
import torch

from brain_lightning import Brain, EpochCounter, Stage
from brain_lightning.engine.trainer import progress_bar
from brain_lightning.engine.trainer.progress_bar import StageBar

COLOURS = {"train": "GREEN", "valid": "MAGENTA", "test": "CYAN"}


class Recipe(Brain):
    def compute_forward(self, batch: Any, stage: Stage) -> Any:
        return self.modules.model(batch[0])

    def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
        return predictions.mean() * 0 + 0.25

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        print(f"end of {stage.name} {epoch}", file=sys.stderr)


def run(**options: Any) -> None:
    brain = Recipe({"model": torch.nn.Linear(2, 2)}, run_opts=options)
    data = [(torch.ones(2),) for _ in range(4)]
    brain.fit(EpochCounter(2), data, data[:2])
    brain.evaluate(data[:3])


def test_file_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    run()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" [")[0] for line in lines] == [
        *["train: 4/4", "end of TRAIN 1", "valid: 2/2", "end of VALID 1"],
        *["train: 4/4", "end of TRAIN 2", "valid: 2/2", "end of VALID 2"],
        *["test: 3/3", "end of TEST None"],
    ]
    assert "train_loss=0.25" in lines[0]
    assert "train_loss" not in lines[2]
    assert not any("\r" in line for line in lines)


def test_file_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: now)
    bar = StageBar(True, COLOURS)
    bar.open(Stage.TRAIN, 1000)
    for step in range(1000):
        now = step * 0.1
        bar.advance(1.0)
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4  # every 30 of 100 seconds, and at the end
    assert lines[-1].startswith("train: 1000/1000")


@pytest.mark.parametrize("how", ["option", "argument"])
def test_none_when_switched_off(capsys: pytest.CaptureFixture[str], how: str) -> None:
    brain = Recipe({"model": torch.nn.Linear(2, 2)}, run_opts={"noprogressbar": how == "option"})
    brain.fit(range(1), ([torch.ones(2)],), progressbar=None if how == "option" else False)
    assert capsys.readouterr().err == "end of TRAIN 0\n"


def test_argument_wins_over_option(capsys: pytest.CaptureFixture[str]) -> None:
    brain = Recipe({"model": torch.nn.Linear(2, 2)}, run_opts={"noprogressbar": True})
    brain.fit(range(1), ([torch.ones(2)],), progressbar=True)
    assert "train: 1/1" in capsys.readouterr().err


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_screen_has_a_bar_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    bar = StageBar(True, COLOURS)
    bar.open(Stage.VALID, 3, initial=1)
    bar.advance()
    bar.advance()
    bar.close()
    assert "\x1b[35m" in screen.getvalue()  # magenta
    assert "3/3" in screen.getvalue()


def test_screen_is_drawn_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    bar = StageBar(True, dict.fromkeys(COLOURS, ""))
    bar.open(Stage.TRAIN, 5000)
    for _ in range(5000):
        bar.advance(0.5)
    bar.close()
    assert screen.getvalue().count("\r") < 50
    assert "train_loss=0.5" in screen.getvalue()
    assert "\x1b[3" not in screen.getvalue()


def test_notebook_has_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a notebook stderr is no terminal, and shows a text bar all the same."""
    shell = type("ZMQInteractiveShell", (), {})()
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    bar = StageBar(True, COLOURS)
    bar.open(Stage.TRAIN, 2)
    bar.advance(0.5)
    bar.advance(0.5)
    bar.close()
    shown = capsys.readouterr().err
    assert "100%|" in shown
    assert "train_loss=0.5" in shown


def test_real_terminal() -> None:
    """A pseudo terminal: bars end where the stage's own lines begin."""
    code = """
        import torch
        from tests.engine.trainer.test_progress_bar import run
        run(tqdm_colored_bar=True)
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stderr=theirs, stdout=subprocess.DEVNULL
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait(60) == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
    assert re.search(r"100%\|.*4/4 .*train_loss=0\.25\]\r\nend of TRAIN 1\r\n", text)
    assert b"\x1b[32m" in shown
    assert b"\x1b[35m" in shown
    assert b"\x1b[36m" in shown
