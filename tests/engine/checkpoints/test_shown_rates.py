"""SpeechBrain's schedulers show the rate that they set last, also after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from speechbrain.nnet.schedulers import NoamScheduler

from brain_lightning import Stage

from ...contract.small_brain import BATCHES, SmallBrain, fit, small_brain


class Interrupted(Exception):
    pass


class Annealing(SmallBrain):
    """Calls its scheduler behind each step, and notes at the end of an epoch what it shows."""

    left = 0

    def init_optimizers(self) -> None:
        super().init_optimizers()
        self.noam = NoamScheduler(0.1, 5)
        self.checkpointer.add_recoverable("noam", self.noam)

    def fit_batch(self, batch: Any) -> torch.Tensor:
        loss: torch.Tensor = super().fit_batch(batch)
        if self.step <= BATCHES - 1:
            self.noam(self.optimizer)
        return loss

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        self.left -= 1
        if self.left == 0:
            raise Interrupted
        if stage is Stage.VALID:
            vars(self).setdefault("shown", []).append(self.noam.current_lr)
        super().on_stage_end(stage, stage_loss, epoch)


@pytest.mark.parametrize("left", [1, 2])  # the ends of TRAIN and VALID of the first epoch
def test_shown_as_if_never_interrupted(tmp_path: Path, left: int) -> None:
    def run(folder: str, left: int = 0) -> Annealing:
        options = {"ckpt_interval_steps": 1}
        brain = small_brain(tmp_path / folder, Annealing, saves=True, options=options)
        assert isinstance(brain, Annealing)
        brain.left = left
        fit(brain)
        return brain

    whole = run("whole")
    with pytest.raises(Interrupted):
        run("cut", left)
    resumed = run("cut")
    assert vars(resumed)["shown"] == vars(whole)["shown"]
    assert vars(whole)["shown"][0] != 0.1
