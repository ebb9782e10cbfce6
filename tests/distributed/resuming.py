"""One process of two: a run that is never interrupted, and one that is and goes on.

python -m tests.distributed.resuming FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint

import brain_lightning as sb
from tests.parity.small_recipes import (
    HIDDEN,
    INPUTS,
    OUTPUTS,
    AugmentedPoints,
    Points,
    Regression,
    network,
    sgd,
)


class KilledError(Exception):
    """Stands for whatever ends a process."""


class Saving(Regression, sb.Brain):
    """Saves at each validation's end and can be killed at a batch."""

    def init_optimizers(self) -> None:
        super().init_optimizers()
        if not self.hparams.saves:
            del self.checkpointer.recoverables["optimizer"]

    def fit_batch(self, batch: Any) -> torch.Tensor:
        self.seen = getattr(self, "seen", 0) + 1
        if self.seen == self.hparams.killed_at:
            raise KilledError
        loss: torch.Tensor = super().fit_batch(batch)
        return loss

    def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
        if stage == sb.Stage.VALID and (torch.distributed.get_rank() == 0 or epoch % 2):
            # In every second epoch by the main process alone, as some recipes do.
            self.checkpointer.save_and_keep_only(meta={"loss": stage_loss}, min_keys=["loss"])


class Counting(torch.nn.Module):
    """Counts beside its state, otherwise in each process, as dropout masks are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.used = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.used += 1 + torch.distributed.get_rank()
        return inputs * (1 + 0.1 * (self.used % 5))


def without_buffers() -> torch.nn.Module:
    return torch.nn.Sequential(
        Counting(),
        torch.nn.Linear(INPUTS, HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.3),
        torch.nn.Linear(HIDDEN, OUTPUTS),
    )


def weights(
    folder: Path,
    killed_at: list[int | None],
    lightning: bool = False,
    saves: bool = True,
    workers: int = 0,
    **options: Any,
) -> list[torch.Tensor]:
    """Train three epochs, beginning anew behind each time that the run is killed.

    With ``lightning`` the checkpoints to go on from are those of ``ModelCheckpoint``. Without
    ``saves`` neither model nor optimizer is a recoverable.
    """
    rank = torch.distributed.get_rank()
    for number, batch in enumerate(killed_at):
        torch.manual_seed(10 * number + rank)
        if number:
            torch.randn(7)  # a new process has drawn something else
        # DDP leaves buffers alone while gradients accumulate, and a checkpoint has the main
        # process's: with buffers such a resume is not exact.
        model: torch.nn.Module = torch.nn.Sequential(Counting(), network())
        if "grad_accumulation_factor" in options:
            model = without_buffers()
        counter = sb.EpochCounter(3)
        recoverables = {"counter": counter, **({"model": model} if saves else {})}
        checkpointer = sb.Checkpointer(folder, recoverables)
        run_opts = {
            "device": "cpu",
            "distributed_backend": "gloo",
            "noprogressbar": True,
            **({"ckpt_interval_minutes": 0} if lightning else {"ckpt_interval_steps": 2}),
            **options,
        }
        saver = ModelCheckpoint(folder / "lightning", every_n_train_steps=2, save_last=True)
        hparams = {"killed_at": batch, "saves": saves}
        trainer = {"callbacks": [saver]} if lightning else None
        brain = Saving({"model": model}, sgd, hparams, run_opts, checkpointer, trainer=trainer)
        try:
            brain.fit(
                counter,
                AugmentedPoints(24),
                Points(4, 1),
                train_loader_kwargs={"batch_size": 2, "shuffle": True, "num_workers": workers},
                valid_loader_kwargs={"batch_size": 2},
                ckpt_path="last" if lightning and number else None,
            )
        except KilledError:
            assert batch is not None
    return [value.detach().clone() for value in model.state_dict().values()]


def main(folder: Path) -> None:
    sb.ddp_init_group({"distributed_backend": "gloo"})
    rank = torch.distributed.get_rank()
    results = {}
    settings: dict[str, dict[str, Any]] = {
        "plain": {},
        "accumulating": {"grad_accumulation_factor": 3},
        "lightning": {"lightning": True},
        "unsaved": {"saves": False},
        "workers": {"workers": 2},
    }
    for name, options in settings.items():
        whole = weights(folder / f"{name}-whole", [None], **options)
        # Six batches an epoch: behind the second, in the second epoch's middle, once more.
        cut = weights(folder / f"{name}-cut", [4, 6, 5, None], **options)
        results[name] = (whole, cut)
    torch.save(results, folder / f"results-{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
