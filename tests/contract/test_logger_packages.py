"""Loggers of Lightning's with the packages that they are made for.

The packages are large, so the short suite goes without: an environment that stands on this one
gets them here. Where this one has them they are used as they are.
"""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = {"mlflow": "mlflow", "wandb": "wandb", "comet_ml": "comet-ml"}

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that has the packages."""
    missing = [package for name, package in PACKAGES.items() if find_spec(name) is None]
    if not missing:
        return sys.executable
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
    (packages,) = folder.glob("lib/python*/site-packages")
    here = [*site.getsitepackages(), str(REPOSITORY)]
    (packages / "below.pth").write_text("\n".join(here) + "\n", encoding="utf-8")
    made = str(folder / "bin" / "python")
    subprocess.run([made, "-m", "pip", "install", "-q", *missing], check=True, timeout=600)
    return made


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mlflow", [[4, 7.25], [9, 7.25], [14, 7.25], [14, 6.5]]),
        ("wandb", [1, 7.25, 6.5, 2]),
        ("comet", ["CometLogger", True]),
    ],
)
def test_values_arrive(python: str, tmp_path: Path, name: str, expected: list[object]) -> None:
    done = subprocess.run(
        [python, "-m", "tests.contract.logger_package_run", name, str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, "WANDB_SILENT": "true"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("["))
    assert json.loads(line) == expected


def test_comet_without_a_key_says_what_it_needs(python: str, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.contract.small_brain import *; "
        "fit(small_brain(Path(sys.argv[1]), logger='comet'))"
    )
    environment = {name: text for name, text in os.environ.items() if "COMET" not in name}
    done = subprocess.run(
        [python, "-c", script, str(tmp_path)],
        cwd=REPOSITORY,
        env={**environment, "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert "COMET_API_KEY" in done.stderr.splitlines()[-1]
