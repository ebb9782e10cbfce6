"""A recipe under DDP and under DeepSpeed's stages; each process writes its losses.

python -m tests.distributed.deepspeed_runs FOLDER
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from typing_extensions import override

import brain_lightning as sb
from tests.parity.small_recipes import Points, Regression, sgd

from .scenarios import still_network

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"grad_accumulation_factor": 2},
    "clipped": {"max_grad_norm": 0.05},
}
STAGES = (1, 2, 3)


class WithoutGPUs(DeepSpeedStrategy):
    """Lightning's strategy without its two checks for GPUs; DeepSpeed itself runs on CPUs."""

    @override
    def setup_environment(self) -> None:
        DDPStrategy.setup_environment(self)

    @override
    def setup_distributed(self) -> None:
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    @property
    @override
    def root_device(self) -> torch.device:
        return torch.device("cpu", 0)


class Noting(Regression, sb.Brain):
    """Keeps the loss of each batch and stage."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.losses: list[float] = []

    def compute_objectives(self, predictions: torch.Tensor, batch: Any, stage: Any) -> torch.Tensor:
        loss = super().compute_objectives(predictions, batch, stage)
        self.losses.append(loss.item())
        return loss

    def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
        self.losses.append(float(stage_loss))


def losses(
    stage: int | None,
    options: dict[str, Any],
    callbacks: list[Any] | None = None,
    ckpt_path: Path | None = None,
) -> list[float]:
    """Train, and return the losses."""
    torch.manual_seed(1)
    trainer: dict[str, Any] = {"devices": 2, "callbacks": callbacks or []}
    if stage is not None:
        trainer["strategy"] = WithoutGPUs(
            stage=stage, process_group_backend="gloo", logging_batch_size_per_gpu=2
        )
    brain = Noting(
        # No buffers: DDP exchanges them, DeepSpeed does not.
        {"model": still_network()},
        sgd,
        {},
        {"device": "cpu", "distributed_backend": "gloo", "noprogressbar": True, **options},
        trainer=trainer,
    )
    brain.fit(
        range(1, 4),
        Points(16),
        Points(8, 1),
        train_loader_kwargs={"batch_size": 2},
        valid_loader_kwargs={"batch_size": 2},
        ckpt_path=ckpt_path,
    )
    return brain.losses


def resumed(folder: Path) -> str:
    """Save with ModelCheckpoint, and return what the resume says."""
    saving = ModelCheckpoint(folder / "saved", save_top_k=-1, filename="{epoch}")
    losses(2, {}, callbacks=[saving])
    try:
        losses(2, {}, ckpt_path=folder / "saved" / "epoch=1.ckpt")
    except ValueError as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    # DeepSpeed calls functions that torch 2.13 has new names for.
    warnings.filterwarnings("ignore", category=FutureWarning)
    sb.ddp_init_group({"distributed_backend": "gloo"})
    rank = torch.distributed.get_rank()
    found: dict[str, Any] = {
        name: {str(stage): losses(stage, options) for stage in (None, *STAGES)}
        for name, options in SETTINGS.items()
    }
    found["resumed"] = resumed(folder)
    (folder / f"found-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
