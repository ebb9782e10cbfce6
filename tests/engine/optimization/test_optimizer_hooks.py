"""The hooks around the optimizer step, and which optimizers callbacks see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from brain_lightning import Stage

from ...contract.small_brain import OwnSteps, SmallBrain, fit, loader, small_brain


class Norms(pl.Callback):
    """The norm of the gradients, and the weights, when a hook is called."""

    def __init__(self) -> None:
        self.before_step: list[float] = []
        self.hooks: list[tuple[str, int]] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.hooks.append(("step", trainer.optimizers.index(optimizer)))
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        self.before_step.append(float(torch.cat([g.flatten() for g in gradients]).norm()))

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.hooks.append(("zero_grad", trainer.optimizers.index(optimizer)))
        assert all(p.grad is not None for group in optimizer.param_groups for p in group["params"])


def one_batch(brain: SmallBrain) -> None:
    brain.fit(range(1), [next(iter(loader()))])


def test_default_step_is_announced_before_clipping(tmp_path: Path) -> None:
    norms = Norms()
    one_batch(small_brain(tmp_path, options={"max_grad_norm": 1e-3}, callbacks=[norms]))
    assert norms.hooks == [("step", 0), ("zero_grad", 0)]
    assert norms.before_step[0] > 0.1


def test_a_recipes_own_step_is_announced_once(tmp_path: Path) -> None:
    norms = Norms()
    one_batch(small_brain(tmp_path, OwnSteps, callbacks=[norms]))
    assert norms.hooks == [("step", 0), ("zero_grad", 0)]


def test_every_optimizer_is_announced(tmp_path: Path) -> None:
    class Two(SmallBrain):
        def init_optimizers(self) -> None:
            self.optimizers_dict = {
                name: torch.optim.SGD(module.parameters(), 0.1)
                for name, module in self.modules.items()
            }

    norms = Norms()
    brain = small_brain(tmp_path, Two, callbacks=[norms])
    one_batch(brain)
    assert norms.hooks == [("step", 0), ("step", 1), ("zero_grad", 0), ("zero_grad", 1)]
    assert brain.trainer.global_step == 1


def test_nothing_is_hooked_where_nobody_listens(tmp_path: Path) -> None:
    class Looking(SmallBrain):
        hooked: list[int] = []

        def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
            self.hooked.append(len(self.optimizer._optimizer_step_pre_hooks))

    one_batch(small_brain(tmp_path, Looking, callbacks=[pl.Callback()]))
    assert Looking.hooked == [0]


def test_hooks_are_taken_off_at_the_end(tmp_path: Path) -> None:
    brain = small_brain(tmp_path, callbacks=[Norms()])
    one_batch(brain)
    assert not brain.optimizer._optimizer_step_pre_hooks


def test_an_exchanged_optimizer_is_seen_at_the_next_epoch(tmp_path: Path) -> None:
    class Exchanging(SmallBrain):
        def on_stage_start(self, stage: Stage, epoch: int | None = None) -> None:
            super().on_stage_start(stage, epoch)
            if stage is Stage.TRAIN and epoch == 2:
                self.optimizer = torch.optim.SGD(self.modules.parameters(), 0.1)
                self.optimizers_dict = {"opt_class": self.optimizer}

    seen: list[str] = []

    class Watching(pl.Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            seen.append(type(trainer.optimizers[0]).__name__)

    brain = fit(small_brain(tmp_path, Exchanging, epochs=2, callbacks=[Watching(), Norms()]))
    assert seen == ["Adam"] * 5 + ["SGD"] * 5
    assert brain.trainer.global_step == 10


def test_torch_schedulers_are_seen_and_not_stepped(tmp_path: Path) -> None:
    class Scheduled(SmallBrain):
        def init_optimizers(self) -> None:
            super().init_optimizers()
            self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 1, 0.5)

    brain = fit(small_brain(tmp_path, Scheduled))
    (configuration,) = brain.trainer.lr_scheduler_configs
    assert configuration.scheduler is brain.scheduler
    assert brain.optimizer.param_groups[0]["lr"] == 0.01
