"""A script of several fits on one Checkpointer, killed in a later one, ends as if it never was."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from brain_lightning import Brain, Checkpointer, EpochCounter, Stage

BATCHES = [torch.ones(1, 4)] * 3
FITS = 3


class Killed(Exception):
    """The process ends here."""


def script(folder: Path, killed_at: int = -1) -> list[str]:
    """One process: a Brain for each fit, evaluated after it; as a G2P recipe trains its steps."""
    torch.manual_seed(5)
    losses: list[str] = []
    model, checkpointer = torch.nn.Linear(4, 4), Checkpointer(folder)
    counters = {f"counter{number}": EpochCounter(2) for number in range(FITS)}
    checkpointer.add_recoverables({"model": model, **counters})

    class Step(Brain):
        def compute_forward(self, batch: Any, stage: Stage) -> Any:
            return torch.nn.functional.dropout(self.modules.model(batch))

        def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
            loss = predictions.square().mean()
            if stage == Stage.TRAIN:
                losses.append(f"{self.hparams.name} {self.step} {loss.item().hex()}")
                if len(losses) - 1 == killed_at:
                    raise Killed
            return loss

        def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
            if stage == Stage.VALID:
                name = self.hparams.name
                checkpointer.save_and_keep_only(
                    meta={name: epoch, "fit": name},
                    max_keys=[name],
                    ckpt_predicate=lambda each: each.meta.get("fit") == name,
                )

    for name, counter in counters.items():
        brain = Step(
            {"model": model},
            functools.partial(torch.optim.SGD, lr=0.1),
            {"name": name},
            {"noprogressbar": True, "device": "cpu"},
            checkpointer,
        )
        brain.fit(counter, BATCHES, BATCHES[:1])
        brain.evaluate(BATCHES[:2], max_key=name)
    return [*losses, *(each.item().hex() for each in model.weight.flatten())]


@pytest.mark.parametrize("killed_at", [6, 8, 9, 13])
def test_same_end(killed_at: int, tmp_path: Path) -> None:
    whole = script(tmp_path / "whole")
    with pytest.raises(Killed):
        script(tmp_path / "killed", killed_at)

    rest = script(tmp_path / "killed")

    assert rest == whole[-len(rest) :]
