"""Runs an example as its user does: as a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples"

# The example under SpeechBrain: the same lines, other imports.
SPEECHBRAIN_IMPORT = """import speechbrain as bl
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.utils.distributed import ddp_init_group
bl.PaddedBatch = PaddedBatch
bl.ddp_init_group = ddp_init_group
"""
SPEECHBRAIN_NAMES = {
    "brain_lightning.EpochCounter": "speechbrain.utils.epoch_loop.EpochCounter",
    "brain_lightning.Checkpointer": "speechbrain.utils.checkpoints.Checkpointer",
    "brain_lightning.FileTrainLogger": "speechbrain.utils.train_logger.FileTrainLogger",
    "brain_lightning.PaddedBatch": "speechbrain.dataio.batch.PaddedBatch",
}


def run_recipe(
    recipe: Path, *arguments: str, cwd: Path, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run `python train.py hparams.yaml ARGUMENTS...` of a recipe, in the folder `cwd`."""
    process = subprocess.run(
        [sys.executable, str(recipe / "train.py"), str(recipe / "hparams.yaml"), *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    if check:
        assert process.returncode == 0, process.stderr
    return process


def port_to_speechbrain(recipe: Path, folder: Path) -> Path:
    """Write a copy of the recipe into the folder that runs under SpeechBrain."""
    for file in recipe.iterdir():
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8")
        text = text.replace("import brain_lightning as bl\n", SPEECHBRAIN_IMPORT)
        for ours, theirs in SPEECHBRAIN_NAMES.items():
            text = text.replace(ours, theirs)
        if file.name in ("train.py", "hparams.yaml"):
            assert "brain_lightning" not in text
        (folder / file.name).write_text(text, encoding="utf-8")
    return folder


def log_lines(folder: Path) -> list[str]:
    """The lines of the train log in an output folder."""
    return (folder / "train_log.txt").read_text(encoding="utf-8").splitlines()


def epochs_of(lines: list[str]) -> list[int]:
    """The epochs that were trained, in order."""
    return [int(found[1]) for line in lines if (found := re.match(r"epoch: (\d+)[ ,]", line))]


def value_of(name: str, line: str) -> float:
    """The value that a line of the train log gives for a name such as "train loss"."""
    found = re.search(rf"\b{name}: ([\d.e+-]+)", line)
    assert found is not None, line
    return float(found[1])
