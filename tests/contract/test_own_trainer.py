"""A Brain in a Trainer that the user made."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import callbacks
from lightning.pytorch.tuner import Tuner

from brain_lightning import BrainModule

from .small_brain import (
    BATCHES,
    PointsModule,
    SmallBrain,
    fit,
    loader,
    small_brain,
    weights,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training"),
]

# Lightning 2.5 does not ask; torch's own default is the same.
WEIGHTS_ONLY: Any = (
    {"weights_only": True} if "weights_only" in inspect.signature(pl.Trainer.fit).parameters else {}
)


def trainer(folder: Path, **arguments: Any) -> pl.Trainer:
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return pl.Trainer(
        **{**quiet, "default_root_dir": folder, "accelerator": "cpu", "max_epochs": 2, **arguments}
    )


def test_fit(tmp_path: Path) -> None:
    brain = small_brain(tmp_path / "1", saves=True)
    own = trainer(tmp_path, num_sanity_val_steps=0)
    torch.manual_seed(7)
    own.fit(BrainModule(brain), loader(), loader(8))
    assert (
        brain.calls
        == [("start", "TRAIN"), ("end", "TRAIN"), ("start", "VALID"), ("end", "VALID")] * 2
    )
    assert brain.optimizer_step == own.global_step == 2 * BATCHES
    assert {"train_loss", "valid_loss", "WER"} <= own.callback_metrics.keys()

    same = small_brain(tmp_path / "2", saves=True)
    torch.manual_seed(7)
    same.fit(range(1, 3), loader(), loader(8))
    assert all(map(torch.equal, weights(brain), weights(same)))


def test_sanity_check_ends_no_stage(tmp_path: Path) -> None:
    brain = small_brain(tmp_path, saves=True)
    trainer(tmp_path, num_sanity_val_steps=2, max_epochs=1).fit(
        BrainModule(brain), loader(), loader(8)
    )
    assert brain.calls[:2] == [("start", "VALID"), ("start", "TRAIN")]
    assert brain.calls.count(("end", "VALID")) == 1
    assert len(list((tmp_path / "save").iterdir())) == 1


def test_limits_and_precision_are_the_trainers(tmp_path: Path) -> None:
    kinds: list[torch.dtype] = []

    class Looking(SmallBrain):
        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> torch.Tensor:
            kinds.append(predictions.dtype)
            return super().compute_objectives(predictions.float(), batch, stage)

    brain = small_brain(tmp_path, Looking)
    own = trainer(tmp_path, limit_train_batches=3, limit_val_batches=1, precision="bf16-mixed")
    own.fit(BrainModule(brain), loader(), loader(8))
    assert brain.optimizer_step == 6
    assert set(kinds) == {torch.bfloat16}


def test_accumulation_and_clipping_are_the_trainers(tmp_path: Path) -> None:
    brain = small_brain(tmp_path)
    own = trainer(tmp_path, accumulate_grad_batches=5, gradient_clip_val=0.5)
    own.fit(BrainModule(brain), loader(), loader(8))
    assert brain.optimizer_step == 2


@pytest.mark.parametrize("algorithm", [None, "norm", "value"])
def test_clipping_is_the_trainers(tmp_path: Path, algorithm: str | None) -> None:
    """Also where the run option says something else."""
    norms: list[tuple[float, float]] = []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        flat = torch.cat([each.grad.flatten() for each in optimizer.param_groups[0]["params"]])
        norms.append((float(flat.norm()), float(flat.abs().max())))

    class Noting(SmallBrain):
        def init_optimizers(self) -> None:
            super().init_optimizers()
            self.optimizer.register_step_post_hook(note)

    brain = small_brain(tmp_path, Noting, options={"max_grad_norm": 0.5})
    own = trainer(tmp_path, gradient_clip_val=0.01, gradient_clip_algorithm=algorithm, max_epochs=1)
    own.fit(BrainModule(brain), loader(), loader(8))
    assert len(norms) == BATCHES
    for norm, largest in norms:
        if algorithm == "value":
            assert norm > largest == pytest.approx(0.01)
        else:
            assert norm == pytest.approx(0.01, rel=1e-3)


def test_validate_and_test(tmp_path: Path) -> None:
    brain = small_brain(tmp_path)
    module = BrainModule(brain)
    own = trainer(tmp_path)
    (validated,) = own.validate(module, loader(8), verbose=False)
    (tested,) = own.test(module, loader(8), verbose=False)
    assert validated["valid_loss"] == pytest.approx(tested["test_loss"])
    assert brain.calls == [("start", "VALID"), ("end", "VALID"), ("start", "TEST"), ("end", "TEST")]


def test_predict(tmp_path: Path) -> None:
    brain = small_brain(tmp_path)
    predictions = trainer(tmp_path).predict(BrainModule(brain), loader(8))
    assert predictions is not None
    assert [batch.shape for batch in predictions] == [(4, 2), (4, 2)]
    brain.modules.eval()
    torch.testing.assert_close(predictions[0], brain.predict_batch(next(iter(loader(8)))))


def test_predict_without_predict_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(SmallBrain, "predict_batch")
    with pytest.raises(TypeError, match=r"SmallBrain does not define predict_batch\(batch\)"):
        trainer(tmp_path).predict(BrainModule(small_brain(tmp_path)), loader(8))


def test_datamodule(tmp_path: Path) -> None:
    brain = small_brain(tmp_path)
    data = PointsModule()
    own = trainer(tmp_path, num_sanity_val_steps=0)
    own.fit(BrainModule(brain), datamodule=data)
    own.test(BrainModule(brain), datamodule=data, verbose=False)
    assert brain.optimizer_step == 2 * BATCHES
    assert data.hooks.count("before transfer") == 2 * (BATCHES + 2) + 2


def test_datamodule_in_brain_fit(tmp_path: Path) -> None:
    data = PointsModule()
    brain = small_brain(tmp_path / "1")
    torch.manual_seed(7)
    brain.fit(range(2), datamodule=data)
    assert data.hooks == ["setup fit"] + ["before transfer"] * 2 * (BATCHES + 2)
    same = small_brain(tmp_path / "2")
    torch.manual_seed(7)
    same.fit(range(2), loader(), loader(8))
    assert all(map(torch.equal, weights(brain), weights(same)))


def test_datamodule_and_data_at_once(tmp_path: Path) -> None:
    brain = small_brain(tmp_path)
    with pytest.raises(ValueError, match="datamodule as well as train_set"):
        brain.fit(range(2), loader(), datamodule=PointsModule())
    with pytest.raises(TypeError, match=r"must be a lightning\.LightningDataModule"):
        brain.fit(range(2), datamodule=loader())
    with pytest.raises(ValueError, match="nothing to train on"):
        brain.fit(range(2))


def test_barebones(tmp_path: Path) -> None:
    brain = small_brain(tmp_path, saves=True)
    own = pl.Trainer(
        barebones=True, max_epochs=1, accelerator="cpu", default_root_dir=tmp_path / "none"
    )
    own.fit(BrainModule(brain), loader(), loader(8))
    assert brain.optimizer_step == BATCHES
    assert brain.calls == [
        ("start", "TRAIN"),
        ("end", "TRAIN"),
        ("start", "VALID"),
        ("end", "VALID"),
    ]
    assert "valid_loss" not in own.callback_metrics
    assert own.callbacks == []
    assert not (tmp_path / "none").exists()


def test_lr_find(tmp_path: Path) -> None:
    brain = small_brain(tmp_path, saves=True, options={"optimization": "automatic"})
    module = BrainModule(brain)
    own = trainer(tmp_path)
    before = weights(brain)
    found = Tuner(own).lr_find(module, loader(200), loader(8), num_training=40)
    assert found is not None
    assert all(map(torch.equal, before, weights(brain)))
    assert module.lr == found.suggestion()
    own.fit(module, loader(), loader(8))
    assert brain.optimizer.param_groups[0]["lr"] == found.suggestion()
    assert brain.calls.count(("end", "TRAIN")) == 2


def test_scale_batch_size(tmp_path: Path) -> None:
    brain = small_brain(tmp_path)
    data = PointsModule(2)
    before = weights(brain)
    size = Tuner(trainer(tmp_path)).scale_batch_size(
        BrainModule(brain), datamodule=data, max_trials=3, steps_per_trial=1
    )
    assert data.batch_size == size
    assert size is not None
    assert size > 2
    assert all(map(torch.equal, before, weights(brain)))
    assert ("end", "TRAIN") not in brain.calls


@pytest.mark.parametrize("saved", ["epoch=0", "epoch=1"])
def test_resume_at_the_end_of_an_epoch(tmp_path: Path, saved: str) -> None:
    def keeper() -> callbacks.ModelCheckpoint:
        return callbacks.ModelCheckpoint(tmp_path / "kept", "{epoch}", save_top_k=-1)

    def run(max_epochs: int, ckpt_path: str | None = None) -> SmallBrain:
        brain = small_brain(tmp_path, dropout=0.0)
        saving = [] if ckpt_path else [keeper()]
        own = trainer(
            tmp_path,
            max_epochs=max_epochs,
            callbacks=saving,
            enable_checkpointing=bool(saving),
            num_sanity_val_steps=0,
        )
        torch.manual_seed(7 if ckpt_path is None else 99)
        own.fit(BrainModule(brain), loader(), loader(8), ckpt_path=ckpt_path, **WEIGHTS_ONLY)
        return brain

    whole = run(3)
    with pytest.warns(UserWarning, match="callbacks used to create the checkpoint"):
        resumed = run(3, str(tmp_path / "kept" / f"{saved}.ckpt"))
    assert resumed.optimizer_step == whole.optimizer_step
    assert all(map(torch.equal, weights(resumed), weights(whole)))


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
def test_test_with_a_checkpoint(tmp_path: Path) -> None:
    keeper = callbacks.ModelCheckpoint(tmp_path, "kept")
    trained = fit(small_brain(tmp_path, callbacks=[keeper]))
    brain = small_brain(tmp_path)
    trainer(tmp_path).test(
        BrainModule(brain), loader(8), str(tmp_path / "kept.ckpt"), verbose=False
    )
    assert all(map(torch.equal, weights(brain), weights(trained)))
