"""One process of several, as a launcher started it: writes down where it finds itself.

python -m tests.distributed.placed FOLDER [NO_SLURM]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger

import brain_lightning as sb
from brain_lightning.ground import ranks
from tests.parity.small_recipes import Points, Regression, modules, sgd


class Watching(pl.Callback):
    """Looks at the Trainer, and wants to stop in one process only."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        self.seen = {
            "rank": trainer.global_rank,
            "local_rank": trainer.local_rank,
            "node_rank": trainer.node_rank,
            "world_size": trainer.world_size,
            "num_nodes": trainer.num_nodes,
            "num_devices": trainer.num_devices,
            "is_global_zero": trainer.is_global_zero,
            "environment": type(trainer.strategy.cluster_environment).__name__,
        }
        if trainer.current_epoch == 1 and trainer.global_rank == trainer.world_size - 1:
            trainer.should_stop = True


class Logging(Regression, sb.Brain):
    def compute_objectives(self, predictions: torch.Tensor, batch: Any, stage: Any) -> torch.Tensor:
        loss = super().compute_objectives(predictions, batch, stage)
        if stage == sb.Stage.TRAIN:
            rank = float(torch.distributed.get_rank())
            self.log("mean_rank", rank, sync_dist=True, on_step=True)
            self.log("ranks", rank, sync_dist=True, reduce_fx="sum", on_step=True)
        return loss


def main(folder: Path, no_slurm: bool) -> None:
    before = {"rank": ranks.get_rank(), "local_rank": ranks.get_local_rank()}
    options = {"distributed_backend": "gloo", "no_slurm_detection": no_slurm}
    sb.ddp_init_group(options)
    found: dict[str, Any] = {"before": before, "group": torch.distributed.is_initialized()}
    if found["group"]:
        found |= trained(folder, options)
    name = found.get("group") and torch.distributed.get_rank()
    (folder / f"found-{name}.json").write_text(json.dumps(found))


def trained(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    rank = torch.distributed.get_rank()
    found = {
        "after": [ranks.get_rank(), ranks.get_local_rank(), sb.if_main_process()],
        "once": ranks.run_once_per_node(lambda: rank),
        "on_main": sb.run_on_main(lambda: rank),
    }
    watching = Watching()
    local_size = int(os.environ["LOCAL_WORLD_SIZE"])  # as torchrun and ddp_init_group leave it
    metrics = {
        "devices": local_size,
        "logger": CSVLogger(folder),
        "callbacks": [watching],
        "log_every_n_steps": 1,
    }
    best = pl.callbacks.ModelCheckpoint(folder / "best", save_top_k=1)
    metrics["callbacks"].append(best)
    brain = Logging(
        modules(), sgd, {}, {"device": "cpu", "noprogressbar": True, **options}, trainer=metrics
    )
    brain.fit(range(1, 9), Points(16), Points(4), train_loader_kwargs={"batch_size": 2})
    logged = {key: float(value) for key, value in brain.trainer.callback_metrics.items()}
    return {
        **found,
        "trainer": watching.seen,
        "epochs": brain.trainer.current_epoch,
        "logged": {key: logged[key] for key in ("mean_rank", "ranks")},
        "wrote": best.best_model_path,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), len(sys.argv) > 2)
