"""SLURM's signal to one of several processes: all save, the job is queued again, once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from .processes import Processes, clean_environment, free_port
from .test_placement import slurm_variables


@pytest.mark.long
@pytest.mark.timeout(300)
def test_in_a_batch_and_in_a_validation(tmp_path: Path) -> None:
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "asked"}\n')
    program.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    for job in range(3):
        port = free_port()
        environments = [
            clean_environment(**slurm_variables(rank, port), PATH=path) for rank in range(2)
        ]
        command = ["-m", "tests.distributed.requeued", str(tmp_path), str(job)]
        outcome = Processes(command, environments, tmp_path / f"outputs-{job}").wait(90)
        asked = (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""
        assert asked == "requeue 77\n" * min(job + 1, 2), outcome.report()
        expected = 0 if job == 2 else -signal.SIGKILL
        assert expected in outcome.codes, outcome.report()
    for rank in range(2):
        whole, cut = (torch.load(tmp_path / f"{name}-{rank}.pt") for name in ("whole", "cut"))
        assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True))
