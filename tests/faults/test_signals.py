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

    # What a shell starts in the background is told to ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


HANDLER = """
    import os, signal, sys, torch
    from {library} import Brain

    class Recipe(Brain):
        def compute_forward(self, batch, stage):
            if self.step == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return self.modules.model(batch)

        def compute_objectives(self, predictions, batch, stage):
            return predictions.mean()

        def on_fit_batch_end(self, batch, outputs, loss, should_step):
            print("batch", self.step, flush=True)

    if {handles}:
        signal.signal(signal.SIGTERM, lambda *_: print("handled", flush=True))
    modules = {{"model": torch.nn.Linear(2, 2)}}
    brain = Recipe(modules, lambda p: torch.optim.SGD(p, 0.1), run_opts={{"device": "cpu"}})
    brain.fit(range(1), [torch.ones(2)] * 5)
    print("finished")
"""


@pytest.mark.parametrize(
    "library", ["brain_lightning", pytest.param("speechbrain", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("handles", [False, True])
def test_training_ends_behind_the_batch(library: str, handles: bool) -> None:
    code = textwrap.dedent(HANDLER).format(library=library, handles=handles)
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    said = ended.stdout.splitlines()

    if library == "brain_lightning":
        assert sorted(said) == ["batch 1", "batch 2", "batch 3", *["handled"] * handles]
        assert ended.returncode == (128 + signal.SIGTERM if handles else -signal.SIGTERM)
    elif handles:
        assert said[-2:] == ["batch 5", "finished"]
        assert ended.returncode == 0
    else:
        assert said == ["batch 1", "batch 2"]
        assert ended.returncode == -signal.SIGTERM
