import sys

import pytest
import torch

from brain_lightning.entry.launch import torchrun_command
from brain_lightning.ground.device_count import number_of_processes

PROGRAM = ["-m", "brain_lightning", "run", "train.py", "h.yaml", "--trainer.devices", "2"]


def test_started_again_with_torchrun():
    assert torchrun_command(PROGRAM, {"devices": 2}, {}) == [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        *PROGRAM,
    ]


@pytest.mark.parametrize("trainer", [{}, {"devices": 1}, {"devices": "1"}, {"devices": [3]}])
def test_one_device(trainer):
    assert torchrun_command(PROGRAM, trainer, {}) is None


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"},
        {
            "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_PROCID": "0",
            "SLURM_LOCALID": "0",
            "SLURM_JOB_ID": "1",
        },
    ],
)
def test_launched_already(environment):
    assert torchrun_command(PROGRAM, {"devices": 2, "num_nodes": 2}, environment) is None


@pytest.mark.parametrize(
    ("devices", "count"), [(4, 4), ("4", 4), ([0, 2], 2), ("0,2,5", 3), ("auto", 3), (-1, 3)]
)
def test_number_of_processes(devices, count, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert number_of_processes({"devices": devices}) == count


def test_auto_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert number_of_processes({"devices": "auto", "accelerator": "cpu"}) == 1


@pytest.mark.parametrize("devices", [0, "many", 1.5, True, None])
def test_devices_that_are_no_number(devices):
    with pytest.raises(ValueError, match=r"trainer: devices=.* is no number of devices"):
        torchrun_command(PROGRAM, {"devices": devices}, {})


def test_several_machines():
    with pytest.raises(ValueError, match="torchrun --nnodes, or with srun"):
        torchrun_command(PROGRAM, {"devices": 2, "num_nodes": 2}, {})
