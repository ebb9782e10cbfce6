"""Recipes without a base class, models and data, small enough to run a hundred times."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import mse_loss
from torch.utils.data import Dataset, IterableDataset

INPUTS, HIDDEN, OUTPUTS = 6, 8, 3
sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
adam = partial(torch.optim.Adam, lr=0.01)


class Recipe:
    """Stands for Brain in the source; ``Run.brain`` puts the library's Brain below it."""

    if TYPE_CHECKING:
        run: Any
        modules: Any
        hparams: Any
        optimizer: Any

        def __getattr__(self, name: str) -> Any: ...


class Regression(Recipe):
    """The least that a recipe writes."""

    def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
        return self.modules.model(batch[0].to(self.device))

    def compute_objectives(self, predictions: torch.Tensor, batch: Any, stage: Any) -> torch.Tensor:
        return mse_loss(predictions.float(), batch[1].to(self.device))


class Points(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Inputs and targets from a generator of their own."""

    def __init__(self, size: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.inputs = torch.randn(size, INPUTS, generator=generator)
        self.targets = torch.randn(size, OUTPUTS, generator=generator)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inputs[index], self.targets[index]


class AugmentedPoints(Points):
    """Adds noise from the global generator: the process's own, or the worker's seeded one."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = super().__getitem__(index)
        return inputs + 0.1 * torch.randn(INPUTS), targets


class PointStream(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Draws every item from the global generator when it is asked for it; has no length."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(self.size):
            yield torch.randn(INPUTS), torch.randn(OUTPUTS)


class SizedPointStream(PointStream):
    """The same with a length, as SpeechBrain's recipes often give theirs."""

    def __len__(self) -> int:
        return self.size


class RunningCentering(torch.nn.Module):
    """Like a batch norm, state that only train mode changes, but for batches of one too."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean.mul_(0.9).add_(values.detach().float().mean(0), alpha=0.1)
        return values - self.mean.to(values.dtype)


def network(dropout: float = 0.3) -> torch.nn.Module:
    """Make a model whose training depends on train mode and on the random state."""
    return torch.nn.Sequential(
        torch.nn.Linear(INPUTS, HIDDEN),
        RunningCentering(HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Dropout(dropout),
        torch.nn.Linear(HIDDEN, OUTPUTS),
    )


def modules(dropout: float = 0.3) -> dict[str, torch.nn.Module]:
    """Make the modules of ``Regression``."""
    return {"model": network(dropout)}
