"""LearningRateMonitor beside the schedulers of recipes: it logs what each step is made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from speechbrain.nnet.schedulers import NewBobScheduler, NoamScheduler, update_learning_rate
from torch.optim.lr_scheduler import LinearLR, OneCycleLR, StepLR

from brain_lightning import Stage

from .small_brain import BATCHES, SmallBrain, fit, small_brain
from .test_callbacks import logged

EPOCHS = 3
Rate = tuple[float, float]


class Noting(SmallBrain):
    """Notes the rate of every step that the optimizer really makes."""

    def init_optimizers(self) -> None:
        super().init_optimizers()
        self.made_with: list[float] = []
        self.optimizer.register_step_pre_hook(
            lambda optimizer, *_: self.made_with.append(optimizer.param_groups[0]["lr"])
        )


class WithNoam(Noting):
    """Anneals behind each step, as SpeechBrain's transformers do."""

    def init_optimizers(self) -> None:
        super().init_optimizers()
        self.annealing = NoamScheduler(0.02, 4)

    def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Any, should_step: bool) -> None:
        if should_step:
            self.annealing(self.optimizer)


class WithNewBob(Noting):
    """Anneals behind each validation, as SpeechBrain's CRDNNs do."""

    def init_optimizers(self) -> None:
        super().init_optimizers()
        self.annealing = NewBobScheduler(0.01, improvement_threshold=0.9)

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        super().on_stage_end(stage, stage_loss, epoch)
        if stage is Stage.VALID:
            _, new = self.annealing(stage_loss)
            update_learning_rate(self.optimizer, new)


class WithTorch(Noting):
    """Has a scheduler of torch's, that the hparams name, for each step or each epoch."""

    def init_optimizers(self) -> None:
        super().init_optimizers()
        self.scheduler = self.hparams.scheduler(self.optimizer)

    def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Any, should_step: bool) -> None:
        if should_step and not isinstance(self.scheduler, StepLR):
            self.scheduler.step()

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        super().on_stage_end(stage, stage_loss, epoch)
        if stage is Stage.VALID and isinstance(self.scheduler, StepLR):
            self.scheduler.step()


def trained(
    folder: Path, recipe: type[Noting], interval: Any, scheduler: Any, **options: Any
) -> Any:
    """Train with a monitor."""
    brain = small_brain(
        folder,
        recipe,
        epochs=EPOCHS,
        options=options,
        logger="csv",
        log_every_n_steps=1,
        callbacks=[LearningRateMonitor(logging_interval=interval)],
    )
    brain.hparams.scheduler = scheduler
    return fit(brain)


def monitored(folder: Path) -> list[Rate]:
    return sorted({(row["step"], row["lr-Adam"]) for row in logged(folder) if "lr-Adam" in row})


SCHEDULERS = {
    "noam": (WithNoam, None),
    "newbob": (WithNewBob, None),
    "one cycle": (WithTorch, lambda o: OneCycleLR(o, 0.1, total_steps=EPOCHS * BATCHES)),
    "linear": (WithTorch, lambda o: LinearLR(o, total_iters=7)),
    "step": (WithTorch, lambda o: StepLR(o, 1, gamma=0.3)),
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("optimization", ["manual", "automatic"])
def test_rates_of_steps(tmp_path: Path, name: str, optimization: str) -> None:
    recipe, scheduler = SCHEDULERS[name]
    brain = trained(tmp_path, recipe, "step", scheduler, optimization=optimization)
    assert len(set(brain.made_with)) > 1  # it anneals
    assert monitored(tmp_path) == [
        (step, pytest.approx(rate)) for step, rate in enumerate(brain.made_with)
    ]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_rates_of_epochs(tmp_path: Path, name: str) -> None:
    recipe, scheduler = SCHEDULERS[name]
    brain = trained(tmp_path, recipe, "epoch", scheduler)
    assert monitored(tmp_path) == [
        (step, pytest.approx(brain.made_with[step])) for step in range(0, EPOCHS * BATCHES, BATCHES)
    ]


@pytest.mark.parametrize("optimization", ["manual", "automatic"])
def test_rates_of_accumulated_steps(tmp_path: Path, optimization: str) -> None:
    """Every batch that goes into a step says that step's rate, so rows agree."""
    brain = trained(
        tmp_path, WithNoam, None, None, grad_accumulation_factor=2, optimization=optimization
    )
    steps = EPOCHS * (BATCHES // 2)
    assert len(brain.made_with) == steps
    rows = [(step, rate) for step, rate in monitored(tmp_path) if step < steps]
    assert rows == [(step, pytest.approx(rate)) for step, rate in enumerate(brain.made_with)]


def test_rates_of_groups_and_momentum(tmp_path: Path) -> None:
    class Groups(SmallBrain):
        def init_optimizers(self) -> None:
            groups = [{"params": list(part.parameters())} for part in self.modules.values()]
            self.optimizer = torch.optim.SGD(groups, 0.1, momentum=0.8)
            self.optimizers_dict = {"optimizer": self.optimizer}

        def on_fit_batch_end(self, *_: Any) -> None:
            self.optimizer.param_groups[1]["lr"] /= 2

    monitor = LearningRateMonitor(logging_interval="step", log_momentum=True)
    arguments: dict[str, Any] = {"logger": "csv", "log_every_n_steps": 1, "callbacks": [monitor]}
    fit(small_brain(tmp_path, Groups, epochs=1, **arguments))
    rows = [row for row in logged(tmp_path) if "lr-SGD/pg2" in row]
    assert [row["lr-SGD/pg1"] for row in rows] == [0.1] * BATCHES
    assert [row["lr-SGD/pg2"] for row in rows] == pytest.approx(
        [0.1 / 2**n for n in range(BATCHES)]
    )
    assert {row["lr-SGD/pg1-momentum"] for row in rows} == {0.8}
