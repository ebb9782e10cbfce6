"""Callbacks that change or watch what is trained: an interrupted run ends with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import callbacks

from brain_lightning import Stage

from .small_brain import BATCH, Points, SmallBrain, fit, small_brain, weights

pytestmark = pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
EPOCHS = 4
EVERY_STEP = {"ckpt_interval_steps": 1, "ckpt_interval_minutes": 0.0}


class Interrupted(Exception):
    pass


class Cut(pl.Callback):
    def __init__(self, batches: int, path: Path | None) -> None:
        self.left = batches
        self.path = path

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            if self.path is not None:
                trainer.save_checkpoint(self.path)
            raise Interrupted


class HeadLater(callbacks.BaseFinetuning):
    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.head)

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.head, optimizer, lr=0.5)


def backbone_later() -> callbacks.BackboneFinetuning:
    return callbacks.BackboneFinetuning(1, lambda epoch: 1.5, backbone_initial_lr=1e-3)


class Halving(SmallBrain):
    """Changes the rate in the middle of epochs too."""

    def on_fit_batch_end(self, *_: Any) -> None:
        if self.optimizer_step % 4 == 0:
            self.optimizer.param_groups[0]["lr"] /= 2

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        if stage is Stage.VALID:  # before it saves
            self.optimizer.param_groups[-1]["lr"] *= 0.9
        super().on_stage_end(stage, stage_loss, epoch)


MAKERS: list[Callable[[], pl.Callback]] = [
    backbone_later,
    HeadLater,
    lambda: callbacks.EMAWeightAveraging(decay=0.9),
    lambda: callbacks.StochasticWeightAveraging(0.05, swa_epoch_start=1),
]


def brain_in(folder: Path, *given: pl.Callback, epochs: int = EPOCHS) -> SmallBrain:
    return small_brain(
        folder, Halving, saves=True, epochs=epochs, options=EVERY_STEP, callbacks=list(given)
    )


def groups(brain: SmallBrain) -> list[tuple[float, int]]:
    return [(group["lr"], len(group["params"])) for group in brain.optimizer.param_groups]


@pytest.mark.parametrize("make", MAKERS, ids=["backbone", "head", "average", "stochastic"])
@pytest.mark.parametrize("cuts", [[3, 7], pytest.param([10, 2], marks=pytest.mark.long)], ids=str)
@pytest.mark.parametrize("kind", ["checkpointer", "ckpt_path"])
def test_resume(
    tmp_path: Path, make: Callable[[], pl.Callback], cuts: list[int], kind: str
) -> None:
    whole = fit(brain_in(tmp_path / "whole", make()))
    path: Path | None = None
    for part, cut in enumerate(cuts):
        # the Checkpointer saves behind the callbacks, so the batch of the cut is done again
        file = tmp_path / f"{part}.ckpt" if kind == "ckpt_path" else None
        cutting = brain_in(tmp_path / "parts", make(), Cut(cut + (file is None), file))
        with pytest.raises(Interrupted):
            fit(cutting, ckpt_path=path)
        path = file
    resumed = fit(brain_in(tmp_path / "parts", make()), ckpt_path=path)
    assert groups(resumed) == groups(whole)
    assert all(map(torch.equal, weights(resumed), weights(whole)))


@pytest.mark.parametrize("kind", ["checkpointer", "ckpt_path"])
def test_resume_without_another_search(tmp_path: Path, kind: str) -> None:
    def finder() -> pl.Callback:
        return callbacks.LearningRateFinder(max_lr=0.5, num_training_steps=20)

    test_resume(tmp_path, finder, [3, 7], kind)


@pytest.mark.parametrize("kind", ["checkpointer", "ckpt_path"])
def test_resume_while_watching_for_spikes(tmp_path: Path, kind: str) -> None:
    test_resume(tmp_path, lambda: callbacks.SpikeDetection(rtol=100.0), [3, 7], kind)


@pytest.mark.parametrize("make", MAKERS[:2], ids=["backbone", "head"])
def test_evaluation_with_a_checkpoint_of_before_unfreezing(
    tmp_path: Path, make: Callable[[], pl.Callback]
) -> None:
    brain = fit(small_brain(tmp_path, BestFirst, saves=True, callbacks=[make()]))
    assert len(brain.optimizer.param_groups) == 2
    brain.evaluate(Points(8), min_key="WER", test_loader_kwargs={"batch_size": BATCH})
    assert brain.calls.count(("end", "TEST")) == 1
    assert len(brain.optimizer.param_groups) == 1
    assert isinstance(brain, BestFirst)
    assert all(map(torch.equal, weights(brain), brain.after_first_epoch))


class BestFirst(SmallBrain):
    """Its first epoch is the best."""

    after_first_epoch: list[torch.Tensor]

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        self.calls.append(("end", stage.name))
        if stage is Stage.VALID:
            if epoch == 1:
                self.after_first_epoch = weights(self)
            self.checkpointer.save_and_keep_only(meta={"WER": epoch}, min_keys=["WER"])


def test_speechbrain_loads_the_optimizer(tmp_path: Path) -> None:
    """Into one with the same groups; it ignores the names of the parameters."""
    from speechbrain.utils.checkpoints import torch_recovery

    brain = fit(small_brain(tmp_path, saves=True, callbacks=[HeadLater()]))
    (folder,) = (tmp_path / "save").iterdir()
    file = folder / "optimizer.ckpt"
    saved = torch.load(file, weights_only=True)
    assert all(group["parameter_names"] for group in saved["param_groups"])
    there = torch.optim.Adam(
        [{"params": brain.modules[name].parameters()} for name in ("backbone", "head")]
    )
    torch_recovery(there, file, True)
    assert [group["lr"] for group in there.param_groups] == [0.01, 0.5]
    for mine, theirs in zip(
        brain.optimizer.state_dict()["state"].values(),
        there.state_dict()["state"].values(),
        strict=True,
    ):
        assert torch.equal(mine["exp_avg"], theirs["exp_avg"])
