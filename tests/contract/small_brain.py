"""A Brain that trains in a moment, with dropout, shuffling and a checkpointer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset

from brain_lightning import Brain, Checkpointer, EpochCounter, Stage

ITEMS, BATCH = 20, 4
BATCHES = ITEMS // BATCH
Pair = tuple[torch.Tensor, torch.Tensor]


class Points(Dataset[Pair]):
    def __init__(self, size: int = ITEMS) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(size, 3, generator=generator)
        self.targets = torch.randn(size, 2, generator=generator)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Pair:
        return self.inputs[index], self.targets[index]


class SmallBrain(Brain):
    """``WER`` is the meta of what it saves; ``calls`` are the stages that began and ended."""

    calls: list[tuple[str, str]]

    def compute_forward(self, batch: Pair, stage: Stage) -> torch.Tensor:
        features = self.modules.backbone(batch[0])
        return self.modules.head(features)  # type: ignore[no-any-return]

    def compute_objectives(
        self, predictions: torch.Tensor, batch: Pair, stage: Stage
    ) -> torch.Tensor:
        return torch.nn.functional.mse_loss(predictions, batch[1])

    def on_stage_start(self, stage: Stage, epoch: int | None = None) -> None:
        vars(self).setdefault("calls", []).append(("start", stage.name))

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        self.calls.append(("end", stage.name))
        if stage is Stage.VALID and self.checkpointer is not None and epoch is not None:
            self.checkpointer.save_and_keep_only(meta={"WER": 50.0 - epoch}, min_keys=["WER"])

    def predict_batch(self, batch: Pair) -> torch.Tensor:
        return self.compute_forward(batch, Stage.TEST)


class OwnSteps(SmallBrain):
    """A recipe that owns its ``fit_batch``."""

    def fit_batch(self, batch: Pair) -> torch.Tensor:
        loss = self.compute_objectives(self.compute_forward(batch, Stage.TRAIN), batch, Stage.TRAIN)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.optimizer_step += 1
        return loss.detach()


def network(dropout: float = 0.3) -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(dropout))
    return {"backbone": backbone, "head": torch.nn.Linear(8, 2)}


def small_brain(
    folder: Path,
    recipe: type[SmallBrain] = SmallBrain,
    epochs: int = 3,
    saves: bool = False,
    options: dict[str, Any] | None = None,
    optimizer: Any = None,
    dropout: float = 0.3,
    make_checkpointer: Any = Checkpointer,
    **trainer: Any,
) -> SmallBrain:
    """Make a Brain; ``trainer`` is what it is given for ``lightning.Trainer``."""
    modules = network(dropout)
    counter = EpochCounter(epochs)
    checkpointer = None
    if saves:
        checkpointer = make_checkpointer(folder / "save", {**modules, "counter": counter})
    return recipe(
        modules,
        optimizer or (lambda parameters: torch.optim.Adam(parameters, 0.01)),
        {"counter": counter, "output_folder": str(folder)},
        {"device": "cpu", "noprogressbar": True, **(options or {})},
        checkpointer,
        trainer=trainer,
    )


def fit(brain: SmallBrain, **arguments: Any) -> SmallBrain:
    """Train with shuffled batches."""
    torch.manual_seed(7)
    loader = {"batch_size": BATCH, "shuffle": True}
    brain.fit(
        brain.hparams.counter,
        Points(),
        Points(8),
        train_loader_kwargs=loader,
        valid_loader_kwargs={"batch_size": BATCH},
        **arguments,
    )
    return brain


def loader(size: int = ITEMS, shuffle: bool = False) -> DataLoader[Pair]:
    return DataLoader(Points(size), batch_size=BATCH, shuffle=shuffle)


def weights(brain: SmallBrain) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in brain.modules.parameters()]


class PointsModule(pl.LightningDataModule):
    """The same data as a data module; counts its hooks."""

    def __init__(self, batch_size: int = BATCH) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.hooks: list[str] = []

    def setup(self, stage: str) -> None:
        self.hooks.append(f"setup {stage}")

    def on_before_batch_transfer(self, batch: Pair, dataloader_idx: int) -> Pair:
        assert isinstance(batch[0], torch.Tensor)
        self.hooks.append("before transfer")
        return batch

    def train_dataloader(self) -> DataLoader[Pair]:
        return DataLoader(Points(), batch_size=self.batch_size)

    def val_dataloader(self) -> DataLoader[Pair]:
        return DataLoader(Points(8), batch_size=self.batch_size)

    def test_dataloader(self) -> DataLoader[Pair]:
        return DataLoader(Points(8), batch_size=self.batch_size)

    def predict_dataloader(self) -> DataLoader[Pair]:
        return DataLoader(Points(8), batch_size=self.batch_size)
