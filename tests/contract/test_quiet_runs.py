"""With nothing of Lightning's asked for, a run says and writes what SpeechBrain's does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RECIPE = """
import os, sys, torch, logging
{imports}
logging.basicConfig(level="WARNING", stream=sys.stdout)
# The two libraries' own messages are worded differently.
logging.getLogger().handlers[0].addFilter(
    lambda record: not record.name.startswith(("speechbrain", "brain_lightning"))
)

class Small(Brain):
    def compute_forward(self, batch, stage):
        return self.modules.model(batch[0])

    def compute_objectives(self, predictions, batch, stage):
        return torch.nn.functional.mse_loss(predictions, batch[1])

    def on_stage_end(self, stage, stage_loss, epoch=None):
        print(stage.name, stage_loss, epoch)
        if stage.name == "VALID":
            self.checkpointer.save_and_keep_only(meta={"loss": stage_loss}, name=f"{epoch}")

def train(**options):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    data = torch.utils.data.TensorDataset(torch.randn(20, 3), torch.randn(20, 2))
    counter = EpochCounter(2)
    checkpointer = Checkpointer("save", {"model": model, "counter": counter})
    brain = Small(
        {"model": model},
        lambda parameters: torch.optim.SGD(parameters, 0.1),
        run_opts={"device": "cpu", **options},
        checkpointer=checkpointer,
    )
    loader = {"batch_size": 4}
    brain.fit(counter, data, data, train_loader_kwargs={"shuffle": True, **loader},
              valid_loader_kwargs=loader)
    brain.evaluate(data, min_key="loss", test_loader_kwargs=dict(loader))

for folder in ("without_bars", "with_bars"):
    os.makedirs(folder)
    os.chdir(folder)
    train(noprogressbar=folder == "without_bars")
    os.chdir("..")
    for stream in (sys.stdout, sys.stderr):
        print("==", file=stream, flush=True)
"""

SPEECHBRAIN = """
import warnings; warnings.simplefilter("ignore")
from speechbrain.core import Brain
from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.epoch_loop import EpochCounter
warnings.simplefilter("default")
"""
OURS = "from brain_lightning import Brain, Checkpointer, EpochCounter"
OUR_FILES = (".resume", "checksums")


Shown = tuple[list[str], list[str], list[str]]


def run(folder: Path, imports: str) -> Shown:
    """Return what was on standard output and standard error, each in two parts, and the files.

    The first part is of a run without bars, the second of one with bars; the output is a file.
    """
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", RECIPE.replace("{imports}", imports)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    return done.stdout.split("==\n"), done.stderr.split("==\n"), files


def test_lines_and_files(tmp_path: Path) -> None:
    expected = run(tmp_path / "speechbrain", SPEECHBRAIN)
    found = run(tmp_path / "ours", OURS)
    assert found[0] == expected[0]
    assert all("TEST" in part for part in found[0][:2])
    without_bars, with_bars, _ = found[1]
    assert without_bars == ""
    lines = with_bars.splitlines()
    assert len(lines) == 5
    assert all(": " in line and "[" in line for line in lines)  # bars, and nothing else
    ours = [name for name in found[2] if not any(part in name for part in OUR_FILES)]
    assert ours == expected[2]
