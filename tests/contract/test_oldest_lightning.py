"""The oldest Lightning that is supported: the tests that do without what came later."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

OLDEST = "2.5.0"
ROOT = Path(__file__).resolve().parents[2]
SUITES = (
    "tests/contract/test_own_trainer.py",
    "tests/contract/test_own_trainer_resumed.py",
    "tests/contract/test_lightning_checkpoints.py",
    "tests/engine",
    "tests/facade",
    "tests/parity/test_loop.py",
    "tests/parity/test_optimization.py",
    "tests/parity/test_automatic.py",
    "tests/parity/test_resumed_exactly.py",
)

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with it; everything else, torch too, is what the tests run in."""
    folder = tmp_path_factory.mktemp("oldest")
    wanted = [f"lightning=={OLDEST}", "--target", str(folder)]
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", *wanted]
    process = subprocess.run(install, capture_output=True, text=True, timeout=300, check=False)
    if process.returncode != 0:
        pytest.skip(f"pip could not install Lightning {OLDEST}: {process.stderr[-300:]}")
    return folder


def run(oldest: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(oldest), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_oldest_is_what_is_imported(oldest: Path) -> None:
    process = run(oldest, "-c", "import lightning; print(lightning.__version__)")
    assert process.stdout.strip() == OLDEST, process.stderr


@pytest.mark.parametrize("suite", SUITES)
def test_passes_on_the_oldest(oldest: Path, suite: str) -> None:
    process = run(oldest, "-m", "pytest", "-q", "-p", "no:cacheprovider", suite)
    assert process.returncode == 0, process.stdout[-6000:]
