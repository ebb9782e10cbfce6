"""A fit that resumes nothing, and recovers all the same, draws the numbers that SpeechBrain's does.

It recovers what an earlier fit of the script has saved with this Checkpointer, or a checkpoint from
which our part was deleted.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from speechbrain.dataio.sampler import DynamicBatchSampler
from torch.utils.data import RandomSampler

from .comparison import assert_same
from .library import LIBRARIES
from .scenario import Run, perform
from .small_recipes import AugmentedPoints, Points, Regression, adam, network

DATA = 11


def dynamic_batches() -> DynamicBatchSampler:
    """Batches whose order in an epoch depends on the epochs before."""
    lengths = [1 + index % 3 for index in range(DATA)]
    points = Points(DATA)
    return DynamicBatchSampler(points, 5, num_buckets=3, lengths_list=lengths, shuffle=True)


LOADERS: dict[str, Any] = {
    "in order": lambda: {"batch_size": 2},
    "shuffled by workers": lambda: {"batch_size": 2, "shuffle": True, "num_workers": 2},
    "from the global generator": lambda: {"batch_size": 2, "sampler": RandomSampler(range(DATA))},
    "from a generator": lambda: {
        "batch_size": 2,
        "sampler": RandomSampler(range(DATA), generator=torch.Generator().manual_seed(4)),
    },
    "dynamic batches": lambda: {"batch_sampler": dynamic_batches()},
    "looped": lambda: {"batch_size": 2, "shuffle": True, "looped_nominal_epoch": 4},
}


def loaders(*short: str) -> list[Any]:
    """All of them; those that are not named are of the long form."""
    return [pytest.param(name, marks=() if name in short else pytest.mark.long) for name in LOADERS]


class Noting(Regression):
    """Notes what it is given, and saves after the epoch or leaves it at interval checkpoints."""

    def compute_objectives(self, predictions: torch.Tensor, batch: Any, stage: Any) -> torch.Tensor:
        loss = super().compute_objectives(predictions, batch, stage)
        self.run.note("batch", stage=stage, inputs=batch[0], loss=loss.detach())
        return loss

    def on_stage_end(self, stage: Any, stage_loss: Any, epoch: int | None) -> None:
        if stage == self.run.library.Stage.VALID and self.hparams.saves:
            self.checkpointer.save_and_keep_only()


def brain_with(run: Run, saves: bool, checkpointer: Any) -> Any:
    model = network()
    checkpointer.recoverables.clear()
    counter = run.library.EpochCounter(1)
    checkpointer.add_recoverables({"model": model, "counter": counter})
    hparams = {"saves": saves, "counter": counter}
    options = {"ckpt_interval_steps": 2, "ckpt_interval_minutes": 0}
    return run.brain(Noting, {"model": model}, adam, hparams, options, checkpointer)


def two_fits(run: Run, loader: str, saves: bool, deletes: bool) -> None:
    """Train for an epoch, and go on from its checkpoint with new objects."""
    folder = run.folder / "save"
    checkpointer = run.library.Checkpointer(folder)
    for epochs in (1, 2):
        if deletes and epochs == 2:
            for path in folder.rglob("brain.ckpt.resume"):
                path.unlink()
            checkpointer = run.library.Checkpointer(folder)
        brain = brain_with(run, saves, checkpointer)
        brain.hparams.counter.limit = epochs
        run.note("fit")
        brain.fit(
            brain.hparams.counter,
            AugmentedPoints(DATA),
            Points(4),
            train_loader_kwargs=LOADERS[loader](),
            valid_loader_kwargs={"batch_size": 2},
        )
        run.note("drawn after it", number=torch.rand(1))


@pytest.mark.parametrize("saves", [False, True], ids=["in the epoch", "behind the epoch"])
@pytest.mark.parametrize("deletes", [False, True], ids=["same checkpointer", "deleted"])
@pytest.mark.parametrize("loader", loaders("from the global generator", "dynamic batches"))
def test_same_numbers(loader: str, deletes: bool, saves: bool, tmp_path: Path) -> None:
    scenario = partial(two_fits, loader=loader, saves=saves, deletes=deletes)

    expected = perform(scenario, LIBRARIES["speechbrain"](), tmp_path / "reference")
    found = perform(scenario, LIBRARIES["brain_lightning"](), tmp_path / "ours")

    assert_same(expected, found)


@pytest.mark.parametrize("loader", loaders("shuffled by workers"))
def test_same_numbers_from_a_checkpoint_of_speechbrains(loader: str, tmp_path: Path) -> None:
    def one_fit(run: Run, epochs: int) -> None:
        brain = brain_with(run, False, run.library.Checkpointer(run.folder / "save"))
        brain.hparams.counter.limit = epochs
        brain.fit(
            brain.hparams.counter, AugmentedPoints(DATA), train_loader_kwargs=LOADERS[loader]()
        )
        run.note("drawn after it", number=torch.rand(1))

    traces = []
    for library in ("speechbrain", "brain_lightning"):
        folder = tmp_path / library
        perform(partial(one_fit, epochs=1), LIBRARIES["speechbrain"](), folder)
        traces.append(perform(partial(one_fit, epochs=2), LIBRARIES[library](), folder))
    assert_same(*traces)
