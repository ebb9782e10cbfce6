"""Interval checkpoints where a recipe trains inside of its training, as MetricGAN does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from brain_lightning import Stage
from brain_lightning.engine.checkpoints.interval_checkpoint import INTRA_EPOCH_CKPT_FLAG

from ...contract.small_brain import BATCHES, SmallBrain, fit, loader, small_brain, weights

INNER_BATCHES = 2


class Interrupted(Exception):
    pass


class Nested(SmallBrain):
    """Trains on a part of the data before each epoch; may be interrupted in a batch."""

    inner = False
    batches = 0
    left = 0

    def on_fit_start(self) -> None:
        if not self.inner:  # else each inner run would recover
            super().on_fit_start()

    def on_stage_start(self, stage: Stage, epoch: int | None = None) -> None:
        super().on_stage_start(stage, epoch)
        if stage is Stage.TRAIN and not self.inner:
            self.inner = True
            self.fit(range(1), loader(4 * INNER_BATCHES))
            self.inner = False

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        if not self.inner:
            super().on_stage_end(stage, stage_loss, epoch)

    def fit_batch(self, batch: Any) -> torch.Tensor:
        loss: torch.Tensor = super().fit_batch(batch)
        self.batches += not self.inner
        self.left -= 1
        if self.left == 0:
            raise Interrupted
        return loss


def nested(folder: Path, left: int = 0) -> Nested:
    options = {"ckpt_interval_steps": 1}
    brain = small_brain(folder, Nested, epochs=2, saves=True, options=options)
    assert isinstance(brain, Nested)
    brain.left = left
    return brain


def trained(brain: Nested) -> Nested:
    fit(brain)
    return brain


def test_an_inner_run_saves_none(tmp_path: Path) -> None:
    """Its step is not the step of the epoch around it, which would be taken for done."""
    whole = trained(nested(tmp_path / "whole"))
    assert whole.batches == 2 * BATCHES

    # Behind the first epoch, in the second batch of the inner run of the second one.
    first = nested(tmp_path / "cut", left=INNER_BATCHES + BATCHES + 2)
    with pytest.raises(Interrupted):
        fit(first)
    found = first.checkpointer.find_checkpoint()
    assert found is not None
    assert INTRA_EPOCH_CKPT_FLAG not in found.meta

    resumed = nested(tmp_path / "cut")
    torch.manual_seed(99)
    fit(resumed)
    assert resumed.batches == BATCHES
    assert all(map(torch.equal, weights(resumed), weights(whole)))


def test_the_run_around_it_saves_its_own(tmp_path: Path) -> None:
    """What the epoch began with is run again then, as under SpeechBrain."""
    brain = nested(tmp_path, left=INNER_BATCHES + 4)
    with pytest.raises(Interrupted):
        fit(brain)
    found = brain.checkpointer.find_checkpoint()
    assert found is not None
    assert INTRA_EPOCH_CKPT_FLAG in found.meta
    resumed = trained(nested(tmp_path))
    assert resumed.batches == 2 * BATCHES - 3
