"""A task of a job of SLURM's that trains until SLURM tells it that the time is nearly up.

python -m tests.distributed.queued FOLDER [WAITS]
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

import brain_lightning as sb
from tests.parity.small_recipes import AugmentedPoints, Points, Regression, network, sgd

SECONDS = 0.3


class Queued(Regression, sb.Brain):
    """Takes its time, so that the signal finds it in the middle of an epoch."""

    waits = False

    def fit_batch(self, batch: Any) -> torch.Tensor:
        if self.waits:
            time.sleep(SECONDS)
        loss: torch.Tensor = super().fit_batch(batch)
        return loss


def main(folder: Path, waits: bool) -> None:
    """Train; a job that was queued again does not wait, and says where it goes on."""
    sb.ddp_init_group({"distributed_backend": "gloo"})
    rank = torch.distributed.get_rank()
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
    torch.manual_seed(10 * restarts + rank)
    model, counter = network(), sb.EpochCounter(4)
    options = {"device": "cpu", "distributed_backend": "gloo", "noprogressbar": True}
    # Without a Checkpointer: only the checkpoint of the signal can have it go on.
    brain = Queued(
        {"model": model}, sgd, {"counter": counter, "output_folder": str(folder)}, options
    )
    brain.waits = waits and restarts == 0
    brain.fit(
        counter,
        AugmentedPoints(1200),
        Points(8, 1),
        train_loader_kwargs={"batch_size": 2, "shuffle": True},
        valid_loader_kwargs={"batch_size": 2},
    )
    found = {"restarts": restarts, "weights": list(model.state_dict().values())}
    torch.save(found, folder / f"found-{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), len(sys.argv) > 2)
