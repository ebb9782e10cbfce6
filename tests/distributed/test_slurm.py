"""With SLURM itself: srun, torchrun within srun, and a job that is queued again."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from .processes import ROOT, free_port
from .slurm_cluster import MACHINES, SlurmCluster, why_there_is_none
from .test_placement import COMMAND, require_right_trainers

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(700),
    pytest.mark.skipif(why_there_is_none() is not None, reason=str(why_there_is_none())),
]
ALL = ("-N", "2", "-n", "4", "--chdir", str(ROOT))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    made = SlurmCluster(tmp_path_factory.mktemp("cluster") / "slurm")
    yield made
    made.end()


def found(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(4)]


def test_a_task_for_each_process(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Without anything but SLURM's own variables."""
    done = cluster.run("srun", *ALL, sys.executable, *COMMAND, str(tmp_path))
    assert done.returncode == 0, done.stderr
    require_right_trainers(found(tmp_path), nodes=2, environment="SlurmGroupEnvironment")
    assert [each["before"] for each in found(tmp_path)] == [
        {"rank": rank, "local_rank": rank % 2} for rank in range(4)
    ]


def test_a_task_for_each_machine(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Each starts two processes through torchrun."""
    torchrun = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=2"),
        *("--rdzv_backend=c10d", f"--rdzv_endpoint=localhost:{free_port()}", "--rdzv_id=1"),
    ]
    tasks = ("-N", "2", "--ntasks-per-node=1", "--chdir", str(ROOT))
    done = cluster.run("srun", *tasks, *torchrun, *COMMAND, str(tmp_path))
    assert done.returncode == 0, done.stderr
    require_right_trainers(found(tmp_path), nodes=2, environment="SlurmGroupEnvironment")


def test_detection_switched_off(cluster: SlurmCluster, tmp_path: Path) -> None:
    done = cluster.run("srun", *ALL, sys.executable, *COMMAND, str(tmp_path), "no_slurm")
    assert done.returncode == 0, done.stderr
    assert not json.loads((tmp_path / "found-False.json").read_text())["group"]


def test_what_doctor_says_of_the_ranks(cluster: SlurmCluster) -> None:
    doctor = [sys.executable, "-m", "brain_lightning", "doctor", "--ranks"]
    done = cluster.run("srun", "-l", *ALL, *doctor)
    assert done.returncode == 0, done.stderr
    for rank in range(4):
        lines = [
            line.split(":", 1)[1].split()
            for line in done.stdout.splitlines()
            if line.startswith(f"{rank}:")
        ]
        assert ["Started", "by", "SLURM."] in lines
        assert ["rank", str(rank)] in lines
        assert ["main", "address", MACHINES[0]] in lines


def test_a_task_that_fails(cluster: SlurmCluster, tmp_path: Path) -> None:
    fault = [sys.executable, "-m", "tests.distributed.faults", "raise", "3", "3", str(tmp_path)]
    done = cluster.run("srun", *ALL, *fault)
    assert done.returncode != 0
    assert "process 3 failed at step" in done.stderr
    assert "the data of this process are" in done.stderr


def job_script(folder: Path, seconds_before_the_end: int, *arguments: str) -> Path:
    """Write one of the shape that docs/scaling.md has; SLURM may signal a minute earlier."""
    program = [sys.executable, "-m", "tests.distributed.queued", str(folder), *arguments]
    script = folder / "job.sh"
    script.write_text(
        "#!/bin/bash\n"
        "#SBATCH --nodes=2\n"
        "#SBATCH --ntasks-per-node=2\n"
        "#SBATCH --time=3\n"
        f"#SBATCH --signal=USR1@{seconds_before_the_end}\n"
        "#SBATCH --requeue\n"
        "#SBATCH --open-mode=append\n"
        f"#SBATCH --output={folder}/output.txt\n"
        'export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)\n'
        f"export MASTER_PORT={free_port()}\n"
        f"srun {shlex.join(program)}\n"
    )
    return script


def test_a_job_whose_time_is_nearly_up_is_queued_again(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    """SLURM itself sends the signal, ends the job and starts it again; nothing is lost."""
    results: dict[str, list[dict[str, Any]]] = {}
    for name, seconds, arguments in (("whole", 5, []), ("cut", 60, ["WAITS"])):
        folder = tmp_path / name
        folder.mkdir()
        script = job_script(folder, seconds, *arguments)
        submitted = cluster.run("sbatch", "--parsable", f"--chdir={ROOT}", str(script))
        assert submitted.returncode == 0, submitted.stderr
        cluster.wait_for_job(submitted.stdout.strip(), 500)
        said = (folder / "output.txt").read_text()
        assert (folder / "found-3.pt").exists(), said
        results[name] = [torch.load(folder / f"found-{rank}.pt") for rank in range(4)]
    for whole, cut in zip(results["whole"], results["cut"], strict=True):
        assert (whole["restarts"], cut["restarts"]) == (0, 1)
        for one, other in zip(whole["weights"], cut["weights"], strict=True):
            assert torch.equal(one, other)
