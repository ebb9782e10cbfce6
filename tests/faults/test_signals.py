"""A run that is told to end: by its exit status everybody can see that it did not finish."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
    import os, signal, sys, torch
    from brain_lightning import Brain

    class Recipe(Brain):
        def compute_forward(self, batch, stage):
            if self.step == 3:
                os.kill(os.getpid(), getattr(signal, sys.argv[1]))
            return self.modules.model(batch)

        def compute_objectives(self, predictions, batch, stage):
            return predictions.mean()

    brain = Recipe({"model": torch.nn.Linear(2, 2)}, lambda p: torch.optim.SGD(p, 0.1))
    try:
        brain.fit(range(1), [torch.ones(2)] * 10)
    except KeyboardInterrupt:
        print("interrupted at", brain.step, flush=True)
        raise
    print("finished")
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_exit_status_is_the_signal(name: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), name],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == -getattr(signal, name), ended.stderr
    assert "finished" not in ended.stdout
    assert ("interrupted at 3" in ended.stdout) == (name == "SIGINT")
