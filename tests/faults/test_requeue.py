"""SLURM says that the time is nearly up: the job is queued again and goes on exactly."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from brain_lightning import Stage
from tests.contract.small_brain import BATCH, BATCHES, Points, SmallBrain, small_brain, weights
from tests.faults.forked_processes import forked

JOB = {
    "SLURM_JOB_ID": "12",
    "SLURM_JOB_NAME": "train",
    "SLURM_JOB_NODELIST": "localhost",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "1",
}
"""The variables that srun sets for a job of one task."""


class Signalled(SmallBrain):
    """Gets the signal in the middle of a batch, and is killed in the next one."""

    at: int | None = None
    batches = 0

    def compute_forward(self, batch: Any, stage: Stage) -> torch.Tensor:
        predictions = super().compute_forward(batch, stage)
        if stage is Stage.TRAIN:
            self.batches += 1
            if self.batches == self.at:
                os.kill(os.getpid(), signal.SIGUSR1)
        return predictions

    def optimizers_step(self) -> None:
        super().optimizers_step()
        if self.at is not None and self.batches > self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def job(folder: str, at: int | None, seed: int, in_slurm: bool, interval: int) -> None:
    if in_slurm:
        os.environ |= JOB
        os.environ["PATH"] = os.pathsep.join([str(Path(folder).parent), os.environ["PATH"]])
    options = {"ckpt_interval_steps": interval, "async_checkpoint": False}
    brain = small_brain(Path(folder), Signalled, saves=True, options=options)
    assert isinstance(brain, Signalled)
    brain.at = at
    torch.manual_seed(seed)
    brain.fit(
        brain.hparams.counter,
        Points(),
        Points(8),
        train_loader_kwargs={"batch_size": BATCH, "shuffle": True},
        valid_loader_kwargs={"batch_size": BATCH},
    )
    torch.save([brain.optimizer_step, *weights(brain)], Path(folder) / "end.pt")


def run(
    folder: Path, at: int | None, seed: int = 7, in_slurm: bool = True, interval: int = 99
) -> int | None:
    folder.mkdir(exist_ok=True)
    process = forked.Process(target=job, args=(str(folder), at, seed, in_slurm, interval))
    process.start()
    process.join(120)
    return process.exitcode


@pytest.fixture
def scontrol(tmp_path: Path) -> Path:
    """A program of that name that notes what it is asked for."""
    asked = tmp_path / "asked"
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    program.chmod(0o755)
    return asked


# In the middle of an epoch, and behind its last batch: then the Checkpointer's checkpoint from the
# end of the epoch is further on.
@pytest.mark.parametrize("at", [3, pytest.param(BATCHES, marks=pytest.mark.long)])
def test_requeued(at: int, tmp_path: Path, scontrol: Path) -> None:
    assert run(tmp_path / "whole", None, in_slurm=False) == 0
    folder = tmp_path / "cut"
    assert run(folder, at) == -signal.SIGKILL
    assert scontrol.read_text() == "requeue 12\n"
    saved = torch.load(folder / "hpc_ckpt_1.ckpt", weights_only=True)
    assert saved["brain_lightning"]["run"]["total_batches"] == at
    assert run(folder, None, seed=99) == 0
    found, expected = (torch.load(tmp_path / name / "end.pt") for name in ("cut", "whole"))
    assert found[0] == expected[0] == 3 * BATCHES
    assert all(map(torch.equal, found[1:], expected[1:]))


@pytest.mark.long
def test_an_interval_checkpoint_that_is_newer_rules(tmp_path: Path, scontrol: Path) -> None:
    """What has been trained since the signal is not trained again."""
    assert run(tmp_path / "whole", None, in_slurm=False) == 0
    folder = tmp_path / "cut"
    assert run(folder, 2, interval=1) == -signal.SIGKILL
    requeued = torch.load(folder / "hpc_ckpt_1.ckpt", weights_only=True)
    for value in requeued["state_dict"].values():
        value.fill_(float("nan"))  # so that it would show
    requeued["brain_lightning"]["run"]["total_batches"] = 1
    torch.save(requeued, folder / "hpc_ckpt_1.ckpt")
    assert run(folder, None, seed=99) == 0
    found, expected = (torch.load(tmp_path / name / "end.pt") for name in ("cut", "whole"))
    assert all(map(torch.equal, found[1:], expected[1:]))


class SignalledInValidation(SmallBrain):
    """Gets the signal in a batch of a validation, and is killed where that ends.

    What it noted at the end of TRAIN it needs at the end of VALID, as recipes do. Its validation
    draws random numbers.
    """

    epoch: int | None = None
    by_steps = False

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        if stage is Stage.TRAIN:
            self.train_stats = {Stage.TRAIN: {"loss": stage_loss, "epoch": epoch}}
            return
        if stage is Stage.VALID:
            if epoch == self.epoch:
                os.kill(os.getpid(), signal.SIGKILL)
            lines = Path(self.hparams.output_folder) / "log.txt"
            with lines.open("a") as file:
                stats = None if self.by_steps else self.train_stats[Stage.TRAIN]
                file.write(f"{stats} {stage_loss}\n")
            for group in self.optimizer.param_groups:
                group["lr"] *= 0.5 + 0.1 * float(torch.rand(()))

    def compute_objectives(self, predictions: torch.Tensor, batch: Any, stage: Stage) -> Any:
        loss = super().compute_objectives(predictions, batch, stage)
        if stage is Stage.VALID:
            if self.step == 2 and self.hparams.counter.current == self.epoch:
                os.kill(os.getpid(), signal.SIGUSR1)
            loss = loss * torch.rand(())
        return loss


def job_signalled_in_validation(
    folder: str, epoch: int | None, seed: int, in_slurm: bool, by_steps: bool
) -> None:
    if in_slurm:
        os.environ |= JOB
        os.environ["PATH"] = os.pathsep.join([str(Path(folder).parent), os.environ["PATH"]])
    options = {"val_interval_steps": 3, "grad_accumulation_factor": 2} if by_steps else {}
    brain = small_brain(Path(folder), SignalledInValidation, options=options)
    assert isinstance(brain, SignalledInValidation)
    brain.epoch, brain.by_steps = epoch, by_steps
    torch.manual_seed(seed)
    brain.fit(
        brain.hparams.counter,
        Points(),
        Points(16),
        train_loader_kwargs={"batch_size": BATCH, "shuffle": True},
        valid_loader_kwargs={"batch_size": BATCH},
    )
    torch.save([brain.optimizer_step, *weights(brain)], Path(folder) / "end.pt")


def started(target: Any, folder: Path, *arguments: Any) -> int | None:
    folder.mkdir(exist_ok=True)
    process = forked.Process(target=target, args=(str(folder), *arguments))
    process.start()
    process.join(120)
    return process.exitcode


# The last epoch has no batch behind its validation; with `val_interval_steps` gradients wait there.
@pytest.mark.parametrize(
    ("epoch", "by_steps"),
    [
        (2, True),
        *(pytest.param(epoch, False, marks=pytest.mark.long) for epoch in (1, 3)),
    ],
)
def test_in_a_validation(epoch: int, by_steps: bool, tmp_path: Path, scontrol: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert started(job_signalled_in_validation, whole, None, 7, False, by_steps) == 0
    code = started(job_signalled_in_validation, cut, epoch, 7, True, by_steps)
    assert code == -signal.SIGKILL
    assert scontrol.read_text() == "requeue 12\n"
    assert started(job_signalled_in_validation, cut, None, 99, True, by_steps) == 0
    found, expected = (torch.load(tmp_path / name / "end.pt") for name in ("cut", "whole"))
    assert found[0] == expected[0] == (6 if by_steps else 3 * BATCHES)
    assert all(map(torch.equal, found[1:], expected[1:]))
    assert (cut / "log.txt").read_text() == (whole / "log.txt").read_text()


class SignalledInTest(SmallBrain):
    """Gets the signal in a batch of the test, whose end is not reached."""

    is_signalled = False

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        super().on_stage_end(stage, stage_loss, epoch)
        if stage is Stage.TEST and self.is_signalled:
            os.kill(os.getpid(), signal.SIGKILL)

    def evaluate_batch(self, batch: Any, stage: Stage) -> torch.Tensor:
        if stage is Stage.TEST and self.is_signalled:
            os.kill(os.getpid(), signal.SIGUSR1)
        return super().evaluate_batch(batch, stage)


def job_signalled_in_test(folder: str, is_signalled: bool) -> None:
    os.environ |= JOB
    os.environ["PATH"] = os.pathsep.join([str(Path(folder).parent), os.environ["PATH"]])
    brain = small_brain(Path(folder), SignalledInTest, saves=True)
    assert isinstance(brain, SignalledInTest)
    brain.is_signalled = is_signalled
    brain.fit(brain.hparams.counter, Points(), Points(8), train_loader_kwargs={"batch_size": BATCH})
    loss = brain.evaluate(Points(BATCH), test_loader_kwargs={"batch_size": BATCH})
    (Path(folder) / "end.txt").write_text(f"{len(brain.calls)} {loss}")


@pytest.mark.long
def test_in_a_test(tmp_path: Path, scontrol: Path) -> None:
    """The job is queued again; its training does not begin with a checkpoint of the test."""
    cut = tmp_path / "cut"
    assert started(job_signalled_in_test, cut, True) == -signal.SIGKILL
    assert scontrol.read_text() == "requeue 12\n"
    assert not list(cut.glob("hpc_ckpt*"))
    assert started(job_signalled_in_test, cut, False) == 0
    assert (cut / "end.txt").read_text().split()[0] == "2"
