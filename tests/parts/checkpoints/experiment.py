"""A small experiment whose state can be compared, for the tests of checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

THEIR_META, THEIR_EXTENSION = "CKPT.yaml", ".ckpt"


class Experiment:
    """A model with an optimizer and a scheduler, and the steps taken."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1)
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 2)

    @property
    def recoverables(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
        }

    def step(self, times: int = 1) -> list[float]:
        """Take steps on inputs that depend on the model only; return the losses."""
        losses = []
        for _ in range(times):
            inputs = torch.arange(12.0).reshape(4, 3) / 7
            loss = (self.model(inputs) - 1).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            losses.append(loss.item())
        return losses

    def state(self) -> list[Any]:
        """Everything that is saved, comparable with ==."""
        states = {name: obj.state_dict() for name, obj in self.recoverables.items()}
        return flattened(states)


def flattened(value: Any) -> list[Any]:
    """All leaves of nested containers with where they are, tensors as lists."""
    if isinstance(value, dict):
        return [(key, leaf) for key, item in value.items() for leaf in flattened(item)]
    if isinstance(value, (list, tuple)):
        return [(index, leaf) for index, item in enumerate(value) for leaf in flattened(item)]
    if isinstance(value, torch.Tensor):
        return [(str(value.dtype), value.tolist())]
    return [value]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def change_byte(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)
