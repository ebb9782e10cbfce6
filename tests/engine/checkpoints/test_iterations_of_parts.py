"""Loaders that a recipe's parts draw from in training, as AddNoise does, go on after a resume."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import OnExceptionCheckpoint

from brain_lightning import make_dataloader

from ...contract.small_brain import Pair, Points, SmallBrain, fit, small_brain


class Interrupted(Exception):
    pass


class Noise:
    """Makes its loader when it is first called, for batches as large as that call's."""

    size = 7
    drawn: Iterator[Pair]

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        if not hasattr(self, "loader"):
            self.loader = make_dataloader(Points(self.size), batch_size=len(inputs), shuffle=True)
            self.drawn = iter(self.loader)
        try:
            noise = next(self.drawn)
        except StopIteration:
            self.drawn = iter(self.loader)
            noise = next(self.drawn)
        return inputs + noise[0][torch.arange(len(inputs)) % len(noise[0])]


class Noisy(SmallBrain):
    """Adds noise; draws from another loader that is begun before training."""

    steps_left = -1
    every = 1

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.noise = Noise()
        self.others = iter(make_dataloader(Points(100), batch_size=3))

    def fit_batch(self, batch: Pair) -> torch.Tensor:
        scale = next(self.others)[1].mean()
        inputs = batch[0][: 4 - self.step % 2] * scale
        if self.optimizer_step % self.every == 0:
            inputs = self.noise(inputs)
        loss: torch.Tensor = super().fit_batch((inputs, batch[1][: 4 - self.step % 2]))
        vars(self).setdefault("losses", []).append(loss.item())
        return loss

    def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Any, should_step: bool) -> None:
        self.steps_left -= 1
        if self.steps_left == 0:
            raise Interrupted


def run(folder: Path, recipe: type[Noisy] = Noisy, steps: int = -1) -> list[float]:
    """Train, and return the losses; as in a process of its own, no iterator is left behind."""
    brain = small_brain(folder, recipe, saves=True, options={"ckpt_interval_steps": 1})
    assert isinstance(brain, Noisy)
    brain.steps_left = steps
    losses: list[float] = vars(brain).setdefault("losses", [])
    try:
        fit(brain)
    except Interrupted:
        assert steps > 0
    del brain
    gc.collect()
    return losses


class Peeking(Noisy):
    """Looks at the first batch of a loader in every step."""

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.peeked = make_dataloader(Points(9), batch_size=2)

    def fit_batch(self, batch: Pair) -> torch.Tensor:
        return super().fit_batch((batch[0] * next(iter(self.peeked))[0].mean(), batch[1]))


class Seldom(Noisy):
    """Adds noise only now and then."""

    every = 4


class SameData(Noisy):
    """Draws from two more loaders of the noise's data: in pairs, and in single examples."""

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.further = Noise(), Noise()

    def fit_batch(self, batch: Pair) -> torch.Tensor:
        inputs = self.further[0](batch[0][:2])
        single = self.further[1](batch[0][:1])
        assert len(inputs) == 2
        return super().fit_batch((batch[0] * inputs.mean() * single.mean(), batch[1]))


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [
        (Noisy, 3),
        (Peeking, 4),
        (SameData, 5),
        *(
            pytest.param(*each, marks=pytest.mark.long)
            for each in ((Noisy, 6), (Noisy, 8), (Seldom, 6), (SameData, 6))
        ),
    ],
)
def test_losses_are_those_of_a_run_never_interrupted(
    tmp_path: Path, recipe: type[Noisy], steps: int
) -> None:
    whole = run(tmp_path / "whole", recipe)
    first = run(tmp_path / "cut", recipe, steps)
    second = run(tmp_path / "cut", recipe, 2)
    third = run(tmp_path / "cut", recipe)

    assert first + second + third == whole  # a step that was interrupted noted no loss


class Failing(Noisy):
    """Fails in a step: before it draws noise, or behind that."""

    fails_before = fails_behind = -1
    begun = 0

    def fit_batch(self, batch: Pair) -> torch.Tensor:
        self.begun += 1
        if self.begun == self.fails_before:
            raise Interrupted
        return super().fit_batch(batch)

    def compute_forward(self, batch: Pair, stage: Any) -> torch.Tensor:
        if self.begun == self.fails_behind:
            self.begun = -100
            raise Interrupted
        return super().compute_forward(batch, stage)


@pytest.mark.parametrize("where", ["fails_before", "fails_behind"])
@pytest.mark.parametrize("step", [6, *(pytest.param(n, marks=pytest.mark.long) for n in (3, 9))])
def test_from_what_lightning_saves_of_an_error(tmp_path: Path, where: str, step: int) -> None:
    """The step that failed is done again, with the noise that it had drawn."""

    def run_failing(folder: Path, fails_at: int, ckpt_path: Path | None = None) -> list[float]:
        callback = OnExceptionCheckpoint(folder)
        brain = small_brain(folder, Failing, callbacks=[callback])
        setattr(brain, where, fails_at)
        losses: list[float] = vars(brain).setdefault("losses", [])
        try:
            fit(brain, ckpt_path=ckpt_path)
        except Interrupted:
            assert fails_at > 0
        del brain
        gc.collect()
        return losses

    whole = run_failing(tmp_path / "whole", -1)
    first = run_failing(tmp_path / "cut", step)
    second = run_failing(tmp_path / "cut", -1, tmp_path / "cut" / "on_exception.ckpt")
    assert first + second == whole
