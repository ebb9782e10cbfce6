"""What Lightning saves of an error, while a recovered run has not begun to train again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback, OnExceptionCheckpoint
from torch.utils.data import DataLoader

from ...contract.small_brain import BATCH, Points, SmallBrain, small_brain


class Interrupted(Exception):
    pass


class Recipe(SmallBrain):
    """Is interrupted after a number of steps."""

    steps_left = -1

    def on_fit_batch_end(self, *_: Any) -> None:
        self.steps_left -= 1
        if self.steps_left == 0:
            raise Interrupted


class RaisingCallback(Callback):
    """Fails in one of its hooks."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, self._fail)

    def _fail(self, *_: Any, **__: Any) -> None:
        raise Interrupted


def train(
    folder: Path,
    is_ready: bool,
    steps: int = -1,
    ckpt_path: Path | None = None,
    callbacks: tuple[Callback, ...] = (),
) -> dict[str, torch.Tensor]:
    options = {"ckpt_interval_steps": 1}
    brain = small_brain(folder, Recipe, saves=True, options=options, callbacks=list(callbacks))
    assert isinstance(brain, Recipe)
    brain.steps_left = steps
    loader: dict[str, Any] = {"batch_size": BATCH, "shuffle": True}
    torch.manual_seed(7)
    try:
        brain.fit(
            brain.hparams.counter,
            DataLoader(Points(), **loader) if is_ready else Points(),
            train_loader_kwargs=loader,
            ckpt_path=ckpt_path,
        )
    except Interrupted:
        assert steps > 0 or callbacks
    return brain.modules.state_dict()


@pytest.mark.parametrize(
    "is_ready",
    [pytest.param(False, marks=pytest.mark.long), True],
    ids=["data set", "loader"],
)
@pytest.mark.parametrize("hook", ["on_fit_start", "on_train_epoch_start", "on_train_batch_start"])
@pytest.mark.parametrize("steps", [2, pytest.param(6, marks=pytest.mark.long)])
def test_it_is_where_the_recovered_run_was(
    tmp_path: Path, hook: str, steps: int, is_ready: bool
) -> None:
    whole = train(tmp_path / "whole", is_ready)
    cut = tmp_path / "cut"
    train(cut, is_ready, steps)
    train(cut, is_ready, callbacks=(OnExceptionCheckpoint(cut), RaisingCallback(hook)))
    resumed = train(cut, is_ready, ckpt_path=cut / "on_exception.ckpt")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
