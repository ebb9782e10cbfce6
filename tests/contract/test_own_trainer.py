"""A Brain in a Trainer that the user made."""

from __future__ import annotations

import csv
import inspect
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import callbacks
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner

from brain_lightning import BrainModule, FileTrainLogger, Stage

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


def test_modules_in_eval_mode_are_no_warning(tmp_path: Path) -> None:
    """A Brain leaves them so after a validation, and trains them in training mode."""
    module = BrainModule(small_brain(tmp_path))
    own = trainer(tmp_path, max_epochs=1)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        BrainModule(small_brain(tmp_path))  # its filters
        for _ in range(2):
            own.validate(module, loader(8), verbose=False)
            assert not any(each.training for each in module.modules() if each is not module)
            own.fit(module, loader(), loader(8))
            own.fit_loop.max_epochs += 1
    assert not [str(each.message) for each in shown if "eval mode" in str(each.message)]


@pytest.mark.parametrize("tested_before", [False, True])
def test_what_the_train_logger_gets_is_logged(tmp_path: Path, tested_before: bool) -> None:
    class Logging(SmallBrain):
        def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
            super().on_stage_end(stage, stage_loss, epoch)
            if stage is not Stage.TRAIN:
                stats = {f"{stage.name.lower()}_stats": {"loss": stage_loss, "PER": 7.0}}
                self.hparams.train_log.log_stats({"epoch": epoch, "gain": 0.5}, **stats)

    brain = small_brain(tmp_path, Logging)
    train_log = FileTrainLogger(str(tmp_path / "train_log.txt"))
    brain.hparams.train_log = train_log
    module = BrainModule(brain)
    stops = callbacks.EarlyStopping("valid_PER", patience=1)
    own = trainer(
        tmp_path,
        max_epochs=4,
        callbacks=[stops],
        logger=CSVLogger(tmp_path),
        log_every_n_steps=BATCHES,
    )
    if tested_before:
        own.test(module, loader(8), verbose=False)
        assert own.callback_metrics["test_PER"] == 7.0
    own.fit(module, loader(), loader(8))
    assert own.current_epoch == 2
    with open(Path(own.log_dir or "") / "metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["valid_PER"]]
    assert [(row["step"], row["epoch"], row["gain"]) for row in rows] == [
        (str(BATCHES - 1), "0", "0.5"),
        (str(2 * BATCHES - 1), "1", "0.5"),
    ]
    assert "log_stats" not in vars(train_log)
    assert len((tmp_path / "train_log.txt").read_text().splitlines()) == 2 + tested_before


def test_accumulation_after_a_test_of_the_same_module(tmp_path: Path) -> None:
    brain = small_brain(tmp_path)
    module = BrainModule(brain)
    trainer(tmp_path).test(module, loader(8), verbose=False)
    own = trainer(tmp_path, accumulate_grad_batches=2, num_sanity_val_steps=0)
    own.fit(module, loader(), loader(8))
    assert brain.optimizer_step == 2 * (BATCHES // 2)


def test_the_epoch_for_batch_norms_has_its_loss(tmp_path: Path) -> None:
    """StochasticWeightAveraging adds one, without backward."""
    averages: list[float] = []
    ended: list[int] = []

    class Normed(SmallBrain):
        def on_fit_batch_end(self, *_: Any) -> None:
            ended.append(self.step)

        def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
            if stage is Stage.TRAIN:
                averages.append(float(stage_loss))

    brain = small_brain(tmp_path, Normed, dropout=0.0)
    brain.modules.backbone.append(torch.nn.BatchNorm1d(8))
    averaging = callbacks.StochasticWeightAveraging(0.01, swa_epoch_start=1)
    trainer(tmp_path, callbacks=[averaging], num_sanity_val_steps=0).fit(
        BrainModule(brain), loader(), loader(8)
    )
    assert ended == list(range(1, BATCHES + 1)) * 3
    brain.modules.train()
    losses = [
        brain.compute_objectives(brain.compute_forward(batch, Stage.TRAIN), batch, Stage.TRAIN)
        for batch in loader()
    ]
    assert averages[-1] == pytest.approx(sum(loss.item() for loss in losses) / BATCHES)


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


class Recounting(PointsModule):
    """Has a state that its loaders depend on, and notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.asked: list[Any] = []

    def state_dict(self) -> dict[str, Any]:
        return {"made": self.made}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.asked.append("load_state_dict")
        self.made = state_dict["made"]

    def prepare_data(self) -> None:
        self.asked.append("prepare_data")

    def setup(self, stage: str) -> None:
        self.asked.append(("setup", stage))

    def teardown(self, stage: str) -> None:
        self.asked.append(("teardown", stage))

    def on_exception(self, exception: BaseException) -> None:
        self.asked.append(("on_exception", type(exception)))

    def train_dataloader(self) -> Any:
        self.asked.append("train_dataloader")
        self.made += 1
        return super().train_dataloader()

    def val_dataloader(self) -> Any:
        self.asked.append("val_dataloader")
        return super().val_dataloader()


@pytest.mark.parametrize("kind", ["whole", "resumed", "other's", "failing"])
def test_what_a_datamodule_hears_of_a_fit(tmp_path: Path, kind: str) -> None:
    """In Lightning's order: its state is there when it makes the loaders."""
    path = str(tmp_path / "kept.ckpt")
    first = small_brain(tmp_path, epochs=1)
    data: Any = {"loader": loader()} if kind == "other's" else {"datamodule": Recounting()}
    first.fit(range(1), *data.values()) if kind == "other's" else first.fit(range(1), **data)
    first.trainer.save_checkpoint(path)
    ckpt_path = None if kind in ("whole", "failing") else path

    class Failing(SmallBrain):
        def on_fit_batch_end(self, *_: Any) -> None:
            if kind == "failing":
                raise OverflowError("as if by chance")

    def hears(own: bool) -> Recounting:
        data = Recounting()
        brain = small_brain(tmp_path, Failing)
        with pytest.raises(OverflowError) if kind == "failing" else nullcontext():
            if own:
                trainer(tmp_path, num_sanity_val_steps=0).fit(
                    BrainModule(brain), datamodule=data, ckpt_path=ckpt_path, **WEIGHTS_ONLY
                )
            else:
                brain.fit(range(2), datamodule=data, ckpt_path=ckpt_path)
        return data

    ours, theirs = hears(own=False), hears(own=True)
    assert ours.asked == theirs.asked
    assert ours.made == theirs.made == (2 if kind == "resumed" else 1)


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


def found_by(finder: callbacks.LearningRateFinder) -> Any:
    return getattr(finder, "optimal_lr", None)  # 2.5 has none before a search


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")
def test_no_search_where_the_checkpointer_has_a_checkpoint(tmp_path: Path) -> None:
    def searched(brain: SmallBrain, **arguments: Any) -> callbacks.LearningRateFinder:
        finder = callbacks.LearningRateFinder(max_lr=0.5, num_training_steps=10)
        own = trainer(tmp_path, callbacks=[finder], num_sanity_val_steps=0, **arguments)
        own.fit(BrainModule(brain), loader(), loader(8))
        return finder

    options = {"optimization": "automatic"}
    first = small_brain(tmp_path, saves=True, options=options)
    assert found_by(searched(first)) is not None
    rate = first.optimizer.param_groups[0]["lr"]
    resumed = small_brain(tmp_path, saves=True, options=options)
    assert found_by(searched(resumed, max_epochs=3)) is None
    assert resumed.optimizer.param_groups[0]["lr"] == rate
    found = Tuner(trainer(tmp_path)).lr_find(
        BrainModule(resumed), loader(200), loader(8), num_training=10
    )
    assert found is not None


def test_a_search_after_a_fit_that_failed_before_it(tmp_path: Path) -> None:
    """A fit that goes on from a checkpoint does not search; it fails, and the next one does."""

    class FailingStart(pl.Callback):
        def on_fit_start(self, *_: Any) -> None:
            raise OverflowError("as if by chance")

    finder = callbacks.LearningRateFinder(max_lr=0.5, num_training_steps=10)
    fit(small_brain(tmp_path / "1", saves=True, epochs=1))
    resuming = small_brain(tmp_path / "1", saves=True, callbacks=[FailingStart(), finder])
    with pytest.raises(OverflowError):
        fit(resuming)
    assert found_by(finder) is None
    fit(small_brain(tmp_path / "2", epochs=1, callbacks=[finder]))
    assert found_by(finder) is not None


@pytest.mark.parametrize(
    "method", ["validate", pytest.param("test", marks=pytest.mark.long), "predict"]
)
def test_scale_batch_size_by_an_evaluation(tmp_path: Path, method: Any) -> None:
    """No stage ends, because that is where recipes save, and nothing is left for a fit."""
    brain = small_brain(tmp_path, saves=True)
    brain.calls = []
    data = PointsModule(2)
    module = BrainModule(brain)
    own = trainer(tmp_path, num_sanity_val_steps=0)
    size = Tuner(own).scale_batch_size(
        module, datamodule=data, method=method, max_trials=3, steps_per_trial=1
    )
    assert data.batch_size == size == 8
    stage = {"validate": "VALID", "test": "TEST", "predict": None}[method]
    assert brain.calls == ([] if stage is None else [("start", stage)] * 3)
    brain.calls = []
    own.fit(module, datamodule=data)
    ends = [("start", "TRAIN"), ("end", "TRAIN"), ("start", "VALID"), ("end", "VALID")]
    assert brain.calls == ends * 2
    assert module.brain.optimizer_step == 2 * 3


@pytest.mark.parametrize("method", [pytest.param("validate", marks=pytest.mark.long), "test"])
def test_a_batch_size_that_is_found_before_an_evaluation(tmp_path: Path, method: str) -> None:
    class Finder(callbacks.BatchSizeFinder):
        def on_fit_start(self, *_: Any) -> None:
            """Nothing: it is an evaluation's."""

    checkpoint = tmp_path / "kept.ckpt"
    fit(small_brain(tmp_path, epochs=1, saves=True)).trainer.save_checkpoint(checkpoint)
    brain = small_brain(tmp_path, saves=True)
    own = trainer(tmp_path, callbacks=[Finder(max_trials=2, steps_per_trial=1)])
    evaluate = getattr(own, method)
    evaluate(
        BrainModule(brain), datamodule=PointsModule(2), ckpt_path=str(checkpoint), verbose=False
    )
    stage = {"validate": "VALID", "test": "TEST"}[method]
    assert brain.calls == [("start", stage)] * 3 + [("end", stage)]
    assert brain.hparams.counter.current == 1  # from the checkpoint, and not from before it


def test_a_checkpoint_that_was_evaluated_is_no_resume(tmp_path: Path) -> None:
    checkpoint = tmp_path / "kept.ckpt"
    fit(small_brain(tmp_path, epochs=3)).trainer.save_checkpoint(checkpoint)
    brain = small_brain(tmp_path)
    module = BrainModule(brain)
    trainer(tmp_path).validate(module, loader(8), ckpt_path=str(checkpoint), verbose=False)
    brain.optimizer_step = 0
    own = trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0)
    own.fit(module, loader(), loader(8))
    assert own.global_step == brain.optimizer_step == BATCHES


def test_a_module_that_was_fitted_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    def run(module: BrainModule, max_epochs: int, ckpt_path: str | None = None) -> pl.Trainer:
        own = trainer(tmp_path, max_epochs=max_epochs, num_sanity_val_steps=0)
        torch.manual_seed(7 if ckpt_path is None else 99)
        own.fit(module, loader(), loader(8), ckpt_path=ckpt_path, **WEIGHTS_ONLY)
        return own

    whole = small_brain(tmp_path)
    run(BrainModule(whole), 2)
    brain = small_brain(tmp_path)
    module = BrainModule(brain)
    checkpoint = str(tmp_path / "kept.ckpt")
    run(module, 1).save_checkpoint(checkpoint)
    own = run(module, 2, checkpoint)
    assert own.global_step == brain.optimizer_step == 2 * BATCHES
    assert all(map(torch.equal, weights(brain), weights(whole)))


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
        module = BrainModule(brain)
        if ckpt_path is not None:  # to see where it is
            own.test(module, loader(8), verbose=False)
        own.fit(module, loader(), loader(8), ckpt_path=ckpt_path, **WEIGHTS_ONLY)
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
