"""Ranks, Trainer and files as launchers start the processes: torchrun, SLURM, two machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .processes import Outcome, Processes, clean_environment, free_port, run_ranks

COMMAND = ["-m", "tests.distributed.placed"]


def results(outcome: Outcome, folder: Path, world_size: int) -> list[dict[str, Any]]:
    outcome.require_success()
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(world_size)]


def require_right_trainers(
    found: list[dict[str, Any]], nodes: int, environment: str = "ProcessGroupEnvironment"
) -> None:
    size = len(found)
    local_size = size // nodes
    for rank, each in enumerate(found):
        assert each["after"] == [rank, rank % local_size, rank == 0]
        assert each["on_main"] == 0
        assert each["once"] == (rank if rank % local_size == 0 else None)
        assert each["trainer"] == {
            "rank": rank,
            "local_rank": rank % local_size,
            "node_rank": rank // local_size,
            "world_size": size,
            "num_nodes": nodes,
            "num_devices": local_size,
            "is_global_zero": rank == 0,
            "environment": environment,
        }
        # One process wanted to stop in the second epoch: all did.
        assert each["epochs"] == 2
        assert each["logged"] == {"mean_rank": (size - 1) / 2, "ranks": size * (size - 1) / 2}
        assert each["wrote"] == found[0]["wrote"]


@pytest.mark.timeout(150)
def test_two_machines_of_two(tmp_path: Path) -> None:
    outcome = run_ranks(
        [*COMMAND, str(tmp_path)], tmp_path / "outputs", world_size=4, nodes=2, seconds=120
    )
    require_right_trainers(results(outcome, tmp_path, 4), nodes=2)
    # Written once, by the main process.
    assert len(list(tmp_path.rglob("metrics.csv"))) == 1
    assert len(list((tmp_path / "best").iterdir())) == 1
    steps = next(tmp_path.rglob("metrics.csv")).read_text().count("\n")
    assert steps > 2


def slurm_variables(rank: int, port: int) -> dict[str, str]:
    return {
        "SLURM_JOB_ID": "77",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0",
        "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


@pytest.mark.timeout(150)
def test_one_task_of_srun_for_each_process(tmp_path: Path) -> None:
    port = free_port()
    environments = [clean_environment(**slurm_variables(rank, port)) for rank in range(2)]
    processes = Processes([*COMMAND, str(tmp_path)], environments, tmp_path / "outputs")
    found = results(processes.wait(120), tmp_path, 2)
    assert [each["before"] for each in found] == [
        {"rank": rank, "local_rank": rank} for rank in range(2)
    ]
    require_right_trainers(found, nodes=1, environment="SlurmGroupEnvironment")


@pytest.mark.long
@pytest.mark.timeout(150)
def test_slurm_is_left_alone(tmp_path: Path) -> None:
    environment = clean_environment(**slurm_variables(1, free_port()))
    processes = Processes(
        [*COMMAND, str(tmp_path), "no_slurm"], [environment], tmp_path / "outputs"
    )
    processes.wait(60).require_success()
    assert not json.loads((tmp_path / "found-False.json").read_text())["group"]


@pytest.mark.long
@pytest.mark.timeout(150)
def test_torchrun_inside_of_srun(tmp_path: Path) -> None:
    """torchrun's word counts: for SLURM both processes are task 1 of 2, on the second machine."""
    task = {**slurm_variables(1, free_port()), "SLURM_NODEID": "1"}
    del task["MASTER_PORT"]
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    processes = Processes(
        [*command, *COMMAND, str(tmp_path)], [clean_environment(**task)], tmp_path / "outputs"
    )
    found = results(processes.wait(120), tmp_path, 2)
    assert [each["before"]["rank"] for each in found] == [0, 1]
    require_right_trainers(found, nodes=1, environment="SlurmGroupEnvironment")
