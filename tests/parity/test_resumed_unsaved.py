"""Recipes that save only a part of what they train end, interrupted, as if they never were."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from brain_lightning import Stage

from . import interrupted_runs
from .interrupted_runs import Recipe, Setting, run, same

pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")


class SavesNone(Recipe):
    """Two optimizers and a scheduler, of which the recipe saves nothing."""

    saved_optimizers: tuple[str, ...] = ()

    def init_optimizers(self) -> None:
        super().init_optimizers()
        for name in ("first_opt", "second_opt", "scheduler"):
            if name not in self.saved_optimizers:
                del self.checkpointer.recoverables[name]


class SavesOne(SavesNone):
    saved_optimizers = ("first_opt",)


class Judged(SavesNone):
    """Judged by a frozen network whose statistics training changes, and which nothing saves."""

    @staticmethod
    def further_modules() -> dict[str, torch.nn.Module]:
        judge = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
        return {"judge": judge.requires_grad_(False)}

    def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
        loss = super().compute_objectives(predictions, batch, stage)
        return loss + self.modules.judge(predictions).square().mean()


class Adversarial(SavesNone):
    """A GAN that steps in a ``fit_batch`` of its own, with a critic that nothing saves."""

    @staticmethod
    def further_modules() -> dict[str, torch.nn.Module]:
        critic = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4))
        return {"critic": torch.nn.Sequential(critic, torch.nn.Linear(4, 1))}

    def init_optimizers(self) -> None:
        super().init_optimizers()
        self.critics = [torch.optim.AdamW(self.modules.critic.parameters(), 0.02)]

    def fit_batch(self, batch: Any) -> Any:
        targets = batch[1]
        made = self.compute_forward(batch, Stage.TRAIN)
        critic = self.modules.critic
        (critic(made.detach()) - critic(targets)).mean().backward()
        self._step(*self.critics)
        loss = self.compute_objectives(made, batch, Stage.TRAIN) - critic(made).mean()
        loss.backward()
        self._step(self.first, self.second)
        self._count()
        return loss.detach()

    def _step(self, *optimizers: Any) -> None:
        for optimizer in optimizers:
            optimizer.step()
        self.modules.zero_grad()


EVERY = {"ckpt_interval_steps": 1}
SETTINGS = {
    "none": Setting(EVERY, recipe=SavesNone),
    "one": Setting(EVERY, recipe=SavesOne),
    "judged": Setting(EVERY, recipe=Judged),
    "adversarial": Setting(EVERY, recipe=Adversarial),
    "module": Setting({**EVERY, "async_checkpoint": False}, recipe=SavesNone, saved=("first",)),
    "at an epoch's end": Setting({"ckpt_interval_minutes": 0}, recipe=Adversarial),
}


@functools.cache
def reference(name: str, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    result = run(folder, SETTINGS[name], None)
    assert result is not None
    return result


@pytest.fixture(scope="module")
def reference_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reference")


# Five is in the middle of an epoch, eight in its validation, and behind nine it has ended.
@pytest.mark.parametrize(
    ("name", "cuts"),
    [
        *((name, (12, 3, 9)) for name in ("none", "adversarial")),
        *(
            pytest.param(name, cuts, marks=pytest.mark.long)
            for name in ("none", "adversarial")
            for cuts in ((5,), (8,))
        ),
        *((name, (5, 6)) for name in ("one", "judged", "module")),
        ("at an epoch's end", (12, 10)),
    ],
    ids=str,
)
def test_same_end(name: str, cuts: tuple[int, ...], tmp_path: Path, reference_folder: Path) -> None:
    expected = reference(name, reference_folder / name.replace(" ", "_"))
    assert same(interrupted_runs.interrupted(SETTINGS[name], tmp_path, cuts), expected)
