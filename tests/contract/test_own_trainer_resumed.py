"""A Trainer of the user's, ended in the middle of an epoch, goes on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import callbacks
from torch.utils.data import DataLoader

from brain_lightning import BrainModule, SaveableDataLoader

from .small_brain import BATCH, BATCHES, Points, SmallBrain, small_brain, weights
from .test_lightning_checkpoints import TwoOptimizers
from .test_own_trainer import WEIGHTS_ONLY, trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint"),
    pytest.mark.filterwarnings("ignore:.*ended before the epoch ended"),
    pytest.mark.filterwarnings("ignore:.*Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*The dirpath has changed"),
]


class Noisy(Points):
    """Examples with noise from the global generator."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = super().__getitem__(index)
        return inputs + 0.1 * torch.randn(3), targets


def shuffled() -> DataLoader[Any]:
    return DataLoader(Noisy(), BATCH, shuffle=True)


def with_generator() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(3)
    return DataLoader(Noisy(), BATCH, shuffle=True, generator=generator)


def saveable() -> DataLoader[Any]:
    return SaveableDataLoader(Noisy(), BATCH, shuffle=True)


def with_workers() -> DataLoader[Any]:
    return DataLoader(Noisy(), BATCH, shuffle=True, num_workers=1)


class Interrupted(Exception):
    pass


class Saving(pl.Callback):
    """Saves behind each batch, and ends the run behind one."""

    def __init__(self, folder: Path, cut: int | None = None) -> None:
        self.folder = folder
        self.cut = cut

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        done = trainer.fit_loop.total_batch_idx + 1
        trainer.save_checkpoint(self.folder / f"{done}.ckpt")
        if done == self.cut:
            raise Interrupted


def train(
    folder: Path,
    loader: Callable[[], DataLoader[Any]] = shuffled,
    ckpt_path: Path | str | None = None,
    recipe: type[SmallBrain] = TwoOptimizers,
    options: dict[str, Any] | None = None,
    cut: int | None = None,
    **arguments: Any,
) -> SmallBrain:
    """Train three epochs; each run saves its files in ``folder``."""
    options = {"grad_accumulation_factor": 2} if options is None else options
    brain = small_brain(folder, recipe, saves=True, options=options)
    own = trainer(
        folder,
        **{
            "max_epochs": 3,
            "enable_checkpointing": True,
            "callbacks": [Saving(folder, cut)],
            **arguments,
        },
    )
    torch.manual_seed(7 if ckpt_path is None else 99)
    path = None if ckpt_path is None else str(ckpt_path)
    own.fit(
        BrainModule(brain),
        loader(),
        DataLoader(Points(8), BATCH),
        ckpt_path=path,
        **(WEIGHTS_ONLY if path else {}),
    )
    return brain


def assert_same(found: SmallBrain, expected: SmallBrain) -> None:
    assert found.optimizer_step == expected.optimizer_step
    assert all(map(torch.equal, weights(found), weights(expected)))


# The fifth and the tenth are the last of their epochs, whose validation is still to come.
@pytest.mark.parametrize(
    "loader", [shuffled, saveable, pytest.param(with_generator, marks=pytest.mark.long)]
)
def test_from_any_batch(tmp_path: Path, loader: Callable[[], DataLoader[Any]]) -> None:
    whole = train(tmp_path / "whole", loader)
    for batch in (1, 4, BATCHES, 8, 2 * BATCHES, 3 * BATCHES):
        file = tmp_path / "whole" / f"{batch}.ckpt"
        resumed = train(tmp_path / str(batch), loader, file)
        assert_same(resumed, whole)


def test_with_workers(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", with_workers)
    assert_same(train(tmp_path / "2", with_workers, tmp_path / "whole/2.ckpt"), whole)
    assert_same(train(tmp_path / "8", with_workers, tmp_path / "whole/8.ckpt"), whole)


@pytest.mark.parametrize(
    ("recipe", "options", "arguments"),
    [
        (TwoOptimizers, {}, {"val_check_interval": 2}),
        (TwoOptimizers, {}, {"limit_train_batches": 3, "num_sanity_val_steps": 0}),
        (TwoOptimizers, {"precision": "bf16"}, {"reload_dataloaders_every_n_epochs": 1}),
        (SmallBrain, {"optimization": "automatic"}, {"accumulate_grad_batches": 2}),
    ],
    ids=["validation in epochs", "part of the data", "bf16, loaders made anew", "automatic"],
)
def test_with_arguments(tmp_path: Path, recipe: Any, options: Any, arguments: Any) -> None:
    given = {"recipe": recipe, "options": options, **arguments}
    whole = train(tmp_path / "whole", **given)
    for batch in (2, 4, 7):
        resumed = train(
            tmp_path / str(batch), ckpt_path=tmp_path / "whole" / f"{batch}.ckpt", **given
        )
        assert_same(resumed, whole)


def test_last_after_two_interruptions(tmp_path: Path) -> None:
    def part(cut: int | None, ckpt_path: str | None = None) -> SmallBrain:
        keeper = callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=1, save_last=True)
        saving = Saving(tmp_path / "others", cut)
        return train(tmp_path, ckpt_path=ckpt_path, options={}, callbacks=[keeper, saving])

    whole = train(tmp_path / "whole", options={})
    with pytest.raises(Interrupted):
        part(3)
    with pytest.raises(Interrupted):
        part(4, "last")
    assert_same(part(None, "last"), whole)


def test_behind_an_epoch(tmp_path: Path) -> None:
    """The random numbers of the next epoch are those that it would have had."""

    def run(folder: Path, ckpt_path: Path | None = None) -> SmallBrain:
        keeper = callbacks.ModelCheckpoint(folder, "{epoch}", save_top_k=-1)
        return train(folder, with_generator, ckpt_path, callbacks=[keeper])

    whole = run(tmp_path / "whole")
    for epoch in (0, 1):
        assert_same(run(tmp_path / str(epoch), tmp_path / f"whole/epoch={epoch}.ckpt"), whole)
