import json
import subprocess
import sys

import pytest
import torch

from brain_lightning.entry.launch import torchrun_command
from brain_lightning.ground.device_count import number_of_processes
from tests.distributed.processes import clean_environment

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


@pytest.mark.parametrize("devices", [[0, 0], [], "0,x", [-1, 0], [0, 1.5]])
def test_lists_that_are_no_devices(devices):
    with pytest.raises(ValueError, match=r"is no list of devices\. Give each number once"):
        number_of_processes({"devices": devices})


RECIPE = """
import json, os, sys
import brain_lightning as sb
_, options, overrides = sb.parse_arguments(sys.argv[1:])
sb.ddp_init_group(options)
rank = int(os.environ["RANK"])
with open(f"rank-{rank}.json", "w") as file:
    said = {name: os.environ.get(name) for name in ("WORLD_SIZE", "CUDA_VISIBLE_DEVICES")}
    json.dump({**said, "backend": options["distributed_backend"], "overrides": overrides}, file)
sys.exit(3 if "fail" in overrides and rank == 1 else 0)
"""


def start(folder, *arguments, **environment):
    (folder / "train.py").write_text(RECIPE)
    (folder / "h.yaml").write_text("")
    return subprocess.run(
        [sys.executable, "-m", "brain_lightning", "run", "train.py", "h.yaml", *arguments],
        cwd=folder,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_as_many_processes_as_devices_and_nothing_else_to_say(tmp_path):
    done = start(tmp_path, "--trainer.devices", "[2,0]", "--device", "cpu", "--lr", "0.1")
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        said = json.loads((tmp_path / f"rank-{rank}.json").read_text())
        assert said == {
            "WORLD_SIZE": "2",
            "CUDA_VISIBLE_DEVICES": "2,0",
            "backend": "gloo",
            "overrides": "lr: 0.1",
        }
    assert not (tmp_path / "rank-2.json").exists()


@pytest.mark.long
def test_several_processes_within_an_interactive_slurm_session(tmp_path):
    task = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}
    options = ("--trainer.devices=2", "--device=cpu", "--no_slurm_detection")
    done = start(tmp_path, *options, SLURM_LOCALID="0", SLURM_JOB_ID="7", **task)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.glob("rank-*")} == {"rank-0.json", "rank-1.json"}


def test_a_process_that_fails_is_the_whole_commands_failure(tmp_path):
    chosen = ("--distributed_backend=gloo", "--fail", "1")
    done = start(tmp_path, "--trainer.devices=2", *chosen)
    assert done.returncode == 1
    assert "exitcode  : 3" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "visible", "message"),
    [
        (["--trainer.devices", "several"], None, "devices='several' is no number of devices"),
        (["--trainer.devices"], None, "argument --trainer.devices: expected one value"),
        (["--trainer.devices", "[0,3]"], "4,5", "names GPU 3, but CUDA_VISIBLE_DEVICES=4,5"),
    ],
)
def test_what_cannot_be_started_is_refused_before_the_recipe(tmp_path, arguments, visible, message):
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    done = start(tmp_path, *arguments, "--device", "cpu", **environment)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.glob("rank-*"))
