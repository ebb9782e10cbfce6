"""One task of two that srun started: SLURM tells it that the time is nearly up, and kills it.

python -m tests.distributed.requeued FOLDER JOB
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

import brain_lightning as sb
from tests.parity.small_recipes import AugmentedPoints, Points, Regression, network, sgd

LAST_JOB = 2


class Requeued(Regression, sb.Brain):
    """Job 0: one process gets the signal in a batch, and all are killed two batches later.

    Job 1: the other one gets it in a validation that all are killed behind.
    """

    job = LAST_JOB
    seen = 0

    def fit_batch(self, batch: Any) -> torch.Tensor:
        self.seen += 1
        if self.job == 0 and self.seen == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        self._signal_to(1, if_job=0, now=self.seen == 4)
        loss: torch.Tensor = super().fit_batch(batch)
        return loss

    def evaluate_batch(self, batch: Any, stage: Any) -> Any:
        self._signal_to(0, if_job=1, now=self.hparams.counter.current == 2 and self.step == 1)
        return super().evaluate_batch(batch, stage)

    def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
        if stage == sb.Stage.VALID and self.job == 1 and epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def _signal_to(self, rank: int, if_job: int, now: bool) -> None:
        if now and self.job == if_job and torch.distributed.get_rank() == rank:
            os.kill(os.getpid(), signal.SIGUSR1)


def weights(folder: Path, job: int, seed: int) -> list[torch.Tensor]:
    """Train three epochs."""
    torch.manual_seed(seed)
    model, counter = network(), sb.EpochCounter(3)
    options = {"device": "cpu", "distributed_backend": "gloo", "noprogressbar": True}
    hparams = {"counter": counter, "output_folder": str(folder)}
    # Without a Checkpointer: only the checkpoint of the signal can have it go on.
    brain = Requeued({"model": model}, sgd, hparams, options)
    brain.job = job
    brain.fit(
        counter,
        AugmentedPoints(24),
        Points(8, 1),
        train_loader_kwargs={"batch_size": 2, "shuffle": True},
        valid_loader_kwargs={"batch_size": 2},
    )
    return [value.detach().clone() for value in model.state_dict().values()]


def main(folder: Path, job: int) -> None:
    sb.ddp_init_group({"distributed_backend": "gloo"})
    rank = torch.distributed.get_rank()
    if job == 0:
        torch.save(weights(folder / "whole", LAST_JOB, rank), folder / f"whole-{rank}.pt")
    found = weights(folder / "cut", job, 10 * job + rank)
    torch.save(found, folder / f"cut-{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
