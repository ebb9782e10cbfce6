"""A recipe that saves in `on_stage_end` of TRAIN or TEST, and goes on: beside SpeechBrain."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any

import pytest
import speechbrain
import torch
from speechbrain.utils.checkpoints import Checkpointer as TheirCheckpointer
from speechbrain.utils.epoch_loop import EpochCounter as TheirCounter

import brain_lightning
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.epochs.epoch_counter import EpochCounter

OURS = (brain_lightning.Brain, Checkpointer, EpochCounter)
THEIRS = (speechbrain.Brain, TheirCheckpointer, TheirCounter)


class Left(Exception):
    """The run is left behind the save."""


def run(
    library: tuple[Any, Any, Any], folder: Path, leaves: bool = False, epochs: int = 2
) -> list[tuple[int, int]]:
    brain_class, checkpointer_class, counter_class = library
    steps = []

    class Recipe(brain_class):  # type: ignore[misc,valid-type]
        def compute_forward(self, batch: Any, stage: Any) -> Any:
            return self.modules.model(batch)

        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
            if stage.name == "TRAIN":
                steps.append((self.hparams.counter.current, self.step))
            return predictions.square().mean()

        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: int | None = None) -> None:
            self.checkpointer.save_checkpoint()
            if leaves:
                raise Left

    model, counter = torch.nn.Linear(2, 1), counter_class(epochs)
    brain = Recipe(
        {"model": model},
        functools.partial(torch.optim.SGD, lr=0.1),
        {"counter": counter},
        {"noprogressbar": True, "device": "cpu"},
        checkpointer_class(folder, {"model": model, "counter": counter}),
    )
    with contextlib.suppress(Left):
        brain.fit(counter, [torch.ones(2)] * 3)
        brain.evaluate([torch.ones(2)] * 2)
    return steps


@pytest.mark.parametrize(
    ("library", "second"),
    [(OURS, [(2, 1), (2, 2), (2, 3)]), (THEIRS, [(2, 4), (2, 5), (2, 6)])],
    ids=["ours", "SpeechBrain's"],
)
def test_the_next_epoch_begins_at_zero(
    library: tuple[Any, Any, Any], second: list[tuple[int, int]], tmp_path: Path
) -> None:
    whole = run(library, tmp_path / "whole")
    assert whole == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]

    assert run(library, tmp_path / "left", leaves=True) == whole[:3]
    assert run(library, tmp_path / "left") == second


@pytest.mark.parametrize(
    ("library", "second"),
    [(OURS, [(2, 1), (2, 2), (2, 3)]), (THEIRS, [(2, 6), (2, 7), (2, 8)])],
    ids=["ours", "SpeechBrain's"],
)
def test_so_does_an_epoch_behind_a_save_in_test(
    library: tuple[Any, Any, Any], second: list[tuple[int, int]], tmp_path: Path
) -> None:
    run(library, tmp_path, epochs=1)

    assert run(library, tmp_path, epochs=2) == second
