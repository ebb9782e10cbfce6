"""Loaders in a Checkpointer of the recipe's own, which does not know the Brain, go on as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from brain_lightning import Checkpointer, LoopedLoader, SaveableDataLoader
from tests.contract.small_brain import BATCH, Points, SmallBrain, small_brain


class Interrupted(Exception):
    """The run was ended from outside."""


class SavingByItself(SmallBrain):
    own: Checkpointer
    looks = False
    loader: Any
    looked: list[torch.Tensor]
    left: int
    seen: list[torch.Tensor]

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.own.recover_if_possible()
        if self.looks:
            self.looked = [batch[0] for batch in self.loader]

    def on_fit_batch_end(self, batch: Any, *args: Any) -> None:
        self.seen.append(batch[0])
        self.left -= 1
        if self.left == 0:
            self.own.save_checkpoint(end_of_epoch=False)
            raise Interrupted


def looped(loader: Any) -> Any:
    return LoopedLoader(loader, 5)


def run(folder: Path, wrap: Callable[[Any], Any], seed: int, left: int = -1) -> list[torch.Tensor]:
    """Train for an epoch, or for ``left`` batches; return the batches."""
    brain = small_brain(folder, SavingByItself, epochs=1)
    brain.left, brain.seen = left, []
    torch.manual_seed(seed)
    loader = wrap(SaveableDataLoader(Points(), batch_size=BATCH, shuffle=True))
    saved = {"counter": brain.hparams.counter, "loader": loader, **brain.modules}
    brain.own = Checkpointer(folder / "own", saved)
    try:
        brain.fit(brain.hparams.counter, loader)
    except Interrupted:
        assert left >= 0
    return brain.seen


@pytest.mark.parametrize("wrap", [lambda loader: loader, looped], ids=["plain", "looped"])
def test_the_batches_are_those_of_a_run_never_interrupted(
    tmp_path: Path, wrap: Callable[[Any], Any]
) -> None:
    whole = run(tmp_path / "whole", wrap, 3)
    parts = run(tmp_path / "parts", wrap, 3, left=2) + run(tmp_path / "parts", wrap, 99)
    assert len(parts) == len(whole)
    assert all(map(torch.equal, parts, whole))


@pytest.mark.parametrize("wrap", [lambda loader: loader, looped], ids=["plain", "looped"])
def test_a_loader_that_is_iterated_before_training_gives_what_was_left(
    tmp_path: Path, wrap: Callable[[Any], Any]
) -> None:
    whole = run(tmp_path / "whole", wrap, 3)
    run(tmp_path / "parts", wrap, 3, left=2)
    brain = small_brain(tmp_path / "parts", SavingByItself, epochs=1)
    brain.left, brain.seen, brain.looks = -1, [], True
    torch.manual_seed(99)
    brain.loader = wrap(SaveableDataLoader(Points(), batch_size=BATCH, shuffle=True))
    brain.own = Checkpointer(tmp_path / "parts" / "own", {"loader": brain.loader})
    brain.fit(brain.hparams.counter, brain.loader)
    assert len(brain.looked) == 3
    assert all(map(torch.equal, brain.looked, whole[2:]))
    assert len(brain.seen) == 5
