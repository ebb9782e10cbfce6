"""What the loop itself costs for each training step: SpeechBrain, brain_lightning, Lightning.

A model of one weight, so that everything but the loop is negligible. Run with OMP_NUM_THREADS=1 on
a machine that does nothing else::

    python benchmarks/loop_overhead.py [STEPS]

The libraries take turns, three times; the fastest run of each counts.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

import brain_lightning


def recipe(base: Any) -> Any:
    class Recipe(base):  # type: ignore[misc]
        def compute_forward(self, batch: Any, stage: Any) -> Any:
            return self.modules.model(batch[0])

        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
            return predictions.mean()

    return Recipe


class PlainModule(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.model(batch[0]).mean()
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


def run_brain(base: Any, loader: Any) -> None:
    brain = recipe(base)(
        {"model": torch.nn.Linear(1, 1)},
        lambda parameters: torch.optim.SGD(parameters, 0.1),
        run_opts={"noprogressbar": False},
    )
    brain.fit(range(1), loader)


def run_plain(loader: Any) -> None:
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        gradient_clip_val=5.0,
    )
    trainer.fit(PlainModule(), loader)


def seconds(run: Callable[[Any], None], loader: Any) -> float:
    start = time.perf_counter()
    run(loader)
    return time.perf_counter() - start


def main() -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    loader = DataLoader(TensorDataset(torch.ones(steps, 1)), batch_size=1)
    import speechbrain

    rows = {
        "SpeechBrain": lambda data: run_brain(speechbrain.Brain, data),
        "brain_lightning": lambda data: run_brain(brain_lightning.Brain, data),
        "plain LightningModule": run_plain,
    }
    turns = [{name: seconds(run, loader) for name, run in rows.items()} for _ in range(3)]
    print(f"{'loop':<24}microseconds per step")
    for name in rows:
        print(f"{name:<24}{min(turn[name] for turn in turns) / steps * 1e6:8.0f}")


if __name__ == "__main__":
    main()
