"""At how many moments a run can be interrupted and still ends with the same weights.

The same model with dropout and a shuffled loader, as a plain LightningModule with
``ModelCheckpoint`` and as a Brain. Each is interrupted behind each of its steps but the last two,
and resumed from the checkpoint that it saved after the step before::

    python benchmarks/exact_resume.py
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from brain_lightning import Brain, Checkpointer, EpochCounter

EPOCHS, BATCHES = 3, 7
CUTS = range(1, EPOCHS * BATCHES - 1)


class Interrupted(Exception):
    """Stands for a kill."""


def model() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))


def data() -> TensorDataset:
    return TensorDataset(torch.arange(BATCHES * 8.0).reshape(-1, 4) / 99)


class PlainModule(pl.LightningModule):
    """The model in Lightning alone."""

    model: torch.nn.Module

    def __init__(self, cut: int | None) -> None:
        super().__init__()
        self.model = model()
        self.cut, self.steps = cut, 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.steps += 1
        if self.steps - 1 == self.cut:
            raise Interrupted
        return self.model(batch[0]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 0.01)


def run_plain(folder: Path, cut: int | None) -> list[torch.Tensor] | None:
    module = PlainModule(cut)
    saves = ModelCheckpoint(folder, every_n_train_steps=1, save_last=True)
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=[saves],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    last = folder / "last.ckpt"
    try:
        loader = DataLoader(data(), batch_size=2, shuffle=True)
        trainer.fit(module, loader, ckpt_path=last if last.exists() else None)
    except Interrupted:
        return None
    return [parameter.detach().clone() for parameter in module.parameters()]


class Recipe(Brain):
    """The model in a Brain."""

    cut: int | None = None
    steps = 0

    def compute_forward(self, batch: Any, stage: Any) -> Any:
        model: Any = self.modules.model
        return model(batch[0])

    def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
        return predictions.square().mean()

    def fit_batch(self, batch: Any) -> Any:
        self.steps += 1
        if self.steps - 1 == self.cut:
            raise Interrupted
        return super().fit_batch(batch)


def run_brain(folder: Path, cut: int | None) -> list[torch.Tensor] | None:
    network, counter = model(), EpochCounter(EPOCHS)
    brain = Recipe(
        {"model": network},
        lambda parameters: torch.optim.Adam(parameters, 0.01),
        run_opts={"ckpt_interval_steps": 1, "noprogressbar": True, "device": "cpu"},
        checkpointer=Checkpointer(folder, {"model": network, "counter": counter}),
    )
    brain.cut = cut
    try:
        brain.fit(counter, data(), train_loader_kwargs={"batch_size": 2, "shuffle": True})
    except Interrupted:
        return None
    return [parameter.detach().clone() for parameter in network.parameters()]


def exact_cuts(run: Callable[[Path, int | None], list[torch.Tensor] | None]) -> int:
    """Return at how many cuts the resumed run ends as the one that was not interrupted."""
    with tempfile.TemporaryDirectory() as folder:
        expected = run(Path(folder) / "whole", None)
        assert expected is not None
        exact = 0
        for cut in CUTS:
            assert run(Path(folder) / str(cut), cut) is None
            torch.manual_seed(77)
            found = run(Path(folder) / str(cut), None)
            assert found is not None
            exact += all(map(torch.equal, found, expected))
    return exact


def main() -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for name, run in (("plain LightningModule", run_plain), ("brain_lightning", run_brain)):
        print(f"{name:<24}{exact_cuts(run):3} of {len(CUTS)} cuts end with the same weights")


if __name__ == "__main__":
    main()
