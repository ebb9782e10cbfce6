"""With nothing of Lightning's asked for, a run says and writes what SpeechBrain's does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = """
import sys, torch, logging
{imports}
logging.basicConfig(level="WARNING", stream=sys.stdout)
# The two libraries' own messages are worded differently.
logging.getLogger().handlers[0].addFilter(
    lambda record: not record.name.startswith(("speechbrain", "brain_lightning"))
)

class Small({base}):
    def compute_forward(self, batch, stage):
        return self.modules.model(batch[0])

    def compute_objectives(self, predictions, batch, stage):
        return torch.nn.functional.mse_loss(predictions, batch[1])

    def on_stage_end(self, stage, stage_loss, epoch=None):
        print(stage.name, stage_loss, epoch)
        if stage.name == "VALID":
            self.checkpointer.save_and_keep_only(meta={{"loss": stage_loss}}, name=f"{{epoch}}")

torch.manual_seed(0)
model = torch.nn.Linear(3, 2)
data = torch.utils.data.TensorDataset(torch.randn(20, 3), torch.randn(20, 2))
counter = EpochCounter(2)
checkpointer = Checkpointer("save", {{"model": model, "counter": counter}})
brain = Small(
    {{"model": model},
    lambda parameters: torch.optim.SGD(parameters, 0.1),
    run_opts={{"device": "cpu", "noprogressbar": {noprogressbar}}},
    checkpointer=checkpointer,
)
loader = {{"batch_size": 4}}
brain.fit(counter, data, data, train_loader_kwargs={{"shuffle": True, **loader}},
          valid_loader_kwargs=loader)
brain.evaluate(data, min_key="loss", test_loader_kwargs=dict(loader))
""".replace('{{"model": model},\n    lambda', '{{"model": model}},\n    lambda')

SPEECHBRAIN = """
import warnings; warnings.simplefilter("ignore")
from speechbrain.core import Brain
from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.epoch_loop import EpochCounter
warnings.simplefilter("default")
"""
OURS = "from brain_lightning import Brain, Checkpointer, EpochCounter"
OUR_FILES = (".resume", "checksums")


def run(folder: Path, imports: str, noprogressbar: bool) -> tuple[str, str, list[str]]:
    """Return standard output, standard error and the names of the files."""
    folder.mkdir()
    script = RECIPE.format(imports=imports, base="Brain", noprogressbar=noprogressbar)
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    return done.stdout, done.stderr, files


@pytest.mark.parametrize("noprogressbar", [True, False])
def test_lines_and_files(tmp_path: Path, noprogressbar: bool) -> None:
    expected = run(tmp_path / "speechbrain", SPEECHBRAIN, noprogressbar)
    found = run(tmp_path / "ours", OURS, noprogressbar)
    assert found[0] == expected[0]
    assert "TEST" in found[0]
    if noprogressbar:
        assert found[1] == ""
    else:  # bars, and nothing else
        assert all(": " in line and "[" in line for line in found[1].splitlines() if line)
    ours = [name for name in found[2] if not any(part in name for part in OUR_FILES)]
    assert ours == expected[2]
