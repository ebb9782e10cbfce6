"""DeepSpeed itself, on CPUs: through automatic optimization, with DDP's numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from .deepspeed_runs import SETTINGS, STAGES
from .processes import ROOT, run_ranks

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
# What DeepSpeed needs beside torch, of which it would bring another one.
NEEDED = ["hjson", "ninja", "msgpack", "py-cpuinfo", "einops", "psutil", "pydantic"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("deepspeed")
    packages = folder / "packages"
    install = [sys.executable, "-m", "pip", "install", "-q", "--target", str(packages)]
    without_kernels = {**os.environ, "DS_BUILD_OPS": "0", "DS_ACCELERATOR": "cpu"}
    subprocess.run([*install, *NEEDED], check=True, timeout=300)
    subprocess.run(
        [*install, "--no-deps", "--no-build-isolation", "deepspeed"],
        check=True,
        timeout=300,
        env=without_kernels,
    )
    run_ranks(
        ["-m", "tests.distributed.deepspeed_runs", str(folder)],
        folder / "outputs",
        seconds=400,
        after_the_first=60,
        PYTHONPATH=os.pathsep.join([str(ROOT), str(packages)]),
        DS_ACCELERATOR="cpu",
    ).require_success()
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", SETTINGS)
def test_as_under_ddp(found: list[dict[str, Any]], name: str, stage: int) -> None:
    for each in found:
        assert len(each[name]["None"]) > 20
        assert each[name][str(stage)] == pytest.approx(each[name]["None"], rel=1e-5)


def test_a_resume_is_refused(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert "saved/epoch=1.ckpt with WithoutGPUs" in each["resumed"]
        assert "Leave out ckpt_path" in each["resumed"]
