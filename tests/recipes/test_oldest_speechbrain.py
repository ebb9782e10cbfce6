"""Recipes on the oldest SpeechBrain that is supported, natively and under ours.

It is installed into a folder of its own that comes first on the path; everything else, torch too,
is what the tests run in.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .recipe_process import NATIVE, OURS, environment, run_both
from .recipe_rows import HERE, Row, read_rows
from .written_files import differences

OLDEST = "1.0.3"
NAMES = ("ctc", "metricgan", "separation", "freezing", "odd", "dict_losses", "transformer_resumed")
ROWS = [row for row in read_rows() if row.name in NAMES]

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("oldest")
    wanted = [f"speechbrain=={OLDEST}", "--target", str(folder)]
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", *wanted]
    process = subprocess.run(install, capture_output=True, text=True, timeout=200)
    if process.returncode != 0:
        pytest.skip(f"pip could not install SpeechBrain {OLDEST}: {process.stderr[-300:]}")
    return (HERE / "older_torchaudio", folder)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_recipe_gives_the_same_on_the_oldest(
    row: Row, oldest: tuple[Path, ...], tmp_path: Path
) -> None:
    row.require_speech()
    # Its own default is a GPU, also where there is none.
    row = dataclasses.replace(row, arguments=("--device=cpu", *row.arguments))

    native, ours = run_both(row, tmp_path, oldest)

    assert native.exit_status == row.expected_exits(), f"native:\n{native.output[-4000:]}"
    assert ours.exit_status == row.expected_exits(), f"ours:\n{ours.output[-4000:]}"
    assert len(native.steps) >= row.steps
    assert ours.steps == native.steps
    assert differences(native.folder, ours.folder) == []


def test_the_oldest_is_what_is_imported(oldest: tuple[Path, ...]) -> None:
    code = "import speechbrain, sys; print(speechbrain.__version__)"
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(map(str, oldest)), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert process.stdout.strip() == OLDEST, process.stderr[-2000:]


@pytest.mark.parametrize("how", [NATIVE, OURS], ids=["native", "ours"])
def test_the_device_is_one_that_there_is(
    how: tuple[str, ...], oldest: tuple[Path, ...], tmp_path: Path
) -> None:
    (tmp_path / "h.yaml").write_text("a: 1\n")
    script = tmp_path / "train.py"
    script.write_text(
        "import torch\nfrom speechbrain.core import Brain, parse_arguments\n"
        "run_opts = parse_arguments(['h.yaml'])[1]\n"
        "print(run_opts['device'])\n"
        "print(Brain({'a': torch.nn.Linear(1, 1)}, run_opts=run_opts).device)\n"
    )
    there = "cuda" if torch.cuda.is_available() else "cpu"

    process = subprocess.run(
        [sys.executable, *how, str(script)],
        env=environment(tmp_path, oldest),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    devices = [line.split(":")[0] for line in process.stdout.splitlines()]
    if how == NATIVE:
        assert devices[0] == "cuda"
        assert (process.returncode == 0) == torch.cuda.is_available()
    else:
        assert process.returncode == 0, process.stderr[-2000:]
        assert devices[-1] == there
