"""Schedulers that a recipe steps and does not save go on after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from speechbrain.nnet.schedulers import CyclicLRScheduler, ReduceLROnPlateau

from brain_lightning import Stage

from ...contract.small_brain import SmallBrain, fit, small_brain


class Interrupted(Exception):
    pass


class Annealed(SmallBrain):
    """As SpeechBrain's speaker recipes; notes the rate of each step."""

    steps_left = -1

    def init_optimizers(self) -> None:
        super().init_optimizers()
        self.decay = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)

    def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Any, should_step: bool) -> None:
        self.hparams.schedulers["cyclic"].on_batch_end(self.optimizer)
        self.decay.step()
        vars(self).setdefault("rates", []).append(self.optimizer.param_groups[0]["lr"])
        self.steps_left -= 1
        if self.steps_left == 0:
            raise Interrupted

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        if stage is Stage.VALID:
            plateau = self.hparams.plateau
            vars(self).setdefault("plateau_rates", []).append(
                plateau([self.optimizer], epoch, torch.tensor(5.0))
            )
        super().on_stage_end(stage, stage_loss, epoch)


def run(folder: Path, steps: int = -1) -> Annealed:
    brain = small_brain(folder, Annealed, saves=True, options={"ckpt_interval_steps": 1})
    assert isinstance(brain, Annealed)
    brain.hparams.schedulers = {"cyclic": CyclicLRScheduler(0.01, 0.1, 7)}
    brain.hparams.plateau = ReduceLROnPlateau(patience=0, dont_halve_until_epoch=0)
    brain.steps_left = steps
    fit(brain)
    return brain


@pytest.mark.parametrize("steps", [3, 8, 11])  # in the first, second and third epoch
def test_rates_are_those_of_a_run_never_interrupted(tmp_path: Path, steps: int) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", steps)
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", 2)
    resumed = run(tmp_path / "cut")

    for name in ("rates", "plateau_rates"):
        rest = vars(resumed)[name]
        assert rest == vars(whole)[name][-len(rest) :]
    assert len(set(vars(whole)["rates"])) > 5
