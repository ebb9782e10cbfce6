"""Trainer arguments that Lightning gets as they are: each has its effect on a Brain."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import callbacks, profilers
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.profilers import xla
from lightning.pytorch.strategies import SingleDeviceStrategy

from brain_lightning import BrainModule, Stage
from brain_lightning.ground.errors import OptionError

from .small_brain import (
    BATCHES,
    PointsModule,
    SmallBrain,
    fit,
    loader,
    small_brain,
    weights,
)
from .test_callbacks import logged
from .test_own_trainer import trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


@pytest.mark.parametrize("accelerator", ["cpu", "auto", CPUAccelerator()])
def test_accelerator_is_where_the_brain_is(tmp_path: Path, accelerator: Any) -> None:
    brain = fit(small_brain(tmp_path, epochs=1, accelerator=accelerator))
    assert isinstance(brain.trainer.accelerator, CPUAccelerator)
    assert brain.optimizer_step == BATCHES


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps", "tpu"])
def test_another_accelerator_than_the_brains_device(tmp_path: Path, accelerator: str) -> None:
    with pytest.raises(
        OptionError, match=f"accelerator='{accelerator}', but the run option device is 'cpu'"
    ):
        small_brain(tmp_path, accelerator=accelerator)


def test_an_accelerator_that_is_an_object(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"CUDAAccelerator.*, but the run option device is 'cpu'"):
        small_brain(tmp_path, accelerator=CUDAAccelerator())
    with pytest.raises(OptionError, match="accelerator=5, but it must be a name"):
        small_brain(tmp_path, accelerator=5)


def test_one_device_and_one_node_are_this_process(tmp_path: Path) -> None:
    brain = fit(small_brain(tmp_path, epochs=1, devices=1, num_nodes=1))
    assert (brain.trainer.num_devices, brain.trainer.num_nodes) == (1, 1)


@pytest.mark.parametrize("asked", [{"devices": 2}, {"num_nodes": 2}], ids=str)
def test_several_of_them_need_a_launcher(tmp_path: Path, asked: dict[str, int]) -> None:
    with pytest.raises(OptionError, match=r"several processes.*brain-lightning run, or.*torchrun"):
        fit(small_brain(tmp_path, **asked))


def test_min_epochs_holds_early_stopping_off(tmp_path: Path) -> None:
    stopper = callbacks.EarlyStopping("WER", mode="max", patience=1)
    brain = small_brain(tmp_path, saves=True, epochs=6, min_epochs=4, callbacks=[stopper])
    fit(brain)
    assert brain.hparams.counter.current == 4


def test_plugins(tmp_path: Path) -> None:
    """A CheckpointIO of the user's saves what callbacks save."""
    written: list[str] = []

    class Noting(TorchCheckpointIO):
        def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
            written.append(Path(path).name)
            super().save_checkpoint(checkpoint, path, storage_options)

    keeper = callbacks.ModelCheckpoint(tmp_path, "kept")
    fit(small_brain(tmp_path, epochs=1, plugins=Noting(), callbacks=[keeper]))
    assert written == ["kept.ckpt"]


def test_strategy_of_the_users_own(tmp_path: Path) -> None:
    """In one process; it goes backward and moves nothing that the Brain has."""

    class Noting(SingleDeviceStrategy):
        backwards = 0

        def backward(self, *arguments: Any, **options: Any) -> torch.Tensor:
            self.backwards += 1
            return super().backward(*arguments, **options)

    strategy = Noting(torch.device("cpu"))
    brain = fit(small_brain(tmp_path / "1", epochs=2, strategy=strategy))
    assert strategy.backwards == 2 * BATCHES
    assert brain.trainer.strategy is strategy
    plain = fit(small_brain(tmp_path / "2", epochs=2))
    assert all(map(torch.equal, weights(brain), weights(plain)))


def test_default_root_dir(tmp_path: Path) -> None:
    """Goes before ``output_folder``, for loggers, profilers and what callbacks save."""
    given = {"logger": "csv", "profiler": "simple", "enable_checkpointing": True}
    fit(small_brain(tmp_path / "1", epochs=1, default_root_dir=tmp_path / "there", **given))
    written = {path.name for path in (tmp_path / "there").rglob("*")}
    assert {"metrics.csv", "fit-simple.txt", "epoch=0-step=5.ckpt"} <= written
    assert not (tmp_path / "1").exists()


def test_enable_progress_bar_of_your_own_trainer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for shown in (True, False):
        own = trainer(tmp_path, enable_progress_bar=shown)
        own.test(BrainModule(small_brain(tmp_path)), loader(8), verbose=False)
        said = capsys.readouterr()
        assert ("2/2" in said.out + said.err) is shown


def test_sync_batchnorm_alone_changes_nothing(tmp_path: Path) -> None:
    """In one process there is nothing to synchronize."""
    brain = fit(small_brain(tmp_path / "1", sync_batchnorm=True))
    assert all(map(torch.equal, weights(brain), weights(fit(small_brain(tmp_path / "2")))))


@pytest.mark.parametrize("on", [True, False])
def test_sync_batchnorm_of_your_own_trainer(tmp_path: Path, on: bool) -> None:
    """Lightning converts the entries of ``modules``; it asks for a strategy that synchronizes."""
    own = trainer(tmp_path, strategy="ddp", devices=1, sync_batchnorm=on)
    assert (own.strategy._layer_sync is not None) is on  # type: ignore[attr-defined]


@pytest.mark.parametrize("on", [True, False])
def test_use_distributed_sampler_of_your_own_trainer(tmp_path: Path, on: bool) -> None:
    own = trainer(tmp_path, use_distributed_sampler=on)
    assert own._accelerator_connector.use_distributed_sampler is on


@pytest.mark.parametrize("on", [True, False])
def test_enable_autolog_hparams(tmp_path: Path, on: bool) -> None:
    class Own(CSVLogger):
        asked = 0

        def log_hyperparams(self, *_: Any, **__: Any) -> None:
            self.asked += 1

    class Holding(BrainModule):
        def __init__(self, brain: SmallBrain) -> None:
            super().__init__(brain)
            self.save_hyperparameters({"size": 3})

    logger = Own(tmp_path)
    own = trainer(
        tmp_path,
        max_epochs=1,
        logger=logger,
        log_every_n_steps=1,
        enable_autolog_hparams=on,
        num_sanity_val_steps=0,
    )
    own.fit(Holding(small_brain(tmp_path)), loader(), loader(8))
    assert logger.asked == int(on)


def test_model_registry_is_lightnings(tmp_path: Path) -> None:
    """It names a model in Lightning's own cloud, where this machine has nobody to ask."""
    brain = fit(small_brain(tmp_path, epochs=1, model_registry="mine"))
    assert brain.trainer._model_registry == "mine"


def test_limit_predict_batches(tmp_path: Path) -> None:
    module = BrainModule(small_brain(tmp_path))
    predictions = trainer(tmp_path, limit_predict_batches=1).predict(module, loader(8))
    assert predictions is not None
    assert len(predictions) == 1


def test_reload_dataloaders_every_n_epochs(tmp_path: Path) -> None:
    class Counting(PointsModule):
        made = 0

        def train_dataloader(self) -> Any:
            self.made += 1
            return super().train_dataloader()

    data = Counting()
    own = trainer(
        tmp_path, max_epochs=4, reload_dataloaders_every_n_epochs=2, num_sanity_val_steps=0
    )
    brain = small_brain(tmp_path)
    own.fit(BrainModule(brain), datamodule=data)
    assert data.made == 2
    assert brain.optimizer_step == 4 * BATCHES


@pytest.mark.parametrize("interval", [2, 0.4])
def test_val_check_interval_of_your_own_trainer(tmp_path: Path, interval: float) -> None:
    brain = small_brain(tmp_path, saves=True)
    own = trainer(tmp_path, max_epochs=1, val_check_interval=interval, num_sanity_val_steps=0)
    own.fit(BrainModule(brain), loader(), loader(8))
    assert brain.calls.count(("end", "VALID")) == BATCHES // 2
    assert brain.calls[0] == ("start", "TRAIN")
    assert brain.optimizer_step == BATCHES


@pytest.mark.parametrize("on", [True, False])
def test_inference_mode_of_your_own_trainer(tmp_path: Path, on: bool) -> None:
    seen: set[bool] = set()

    class Looking(SmallBrain):
        def compute_forward(self, batch: Any, stage: Stage) -> torch.Tensor:
            seen.add(torch.is_inference_mode_enabled())
            return super().compute_forward(batch, stage)

    own = trainer(tmp_path, inference_mode=on)
    own.validate(BrainModule(small_brain(tmp_path, Looking)), loader(8), verbose=False)
    assert seen == {on}


def test_inference_mode_is_off_in_fit(tmp_path: Path) -> None:
    brain = fit(small_brain(tmp_path, epochs=1))
    assert brain.trainer.fit_loop.epoch_loop.val_loop.inference_mode is False


def test_Profiler_of_the_users_own(tmp_path: Path) -> None:
    class Own(profilers.Profiler):
        seen: set[str] = set()

        def start(self, action_name: str) -> None:
            self.seen.add(action_name)

        def stop(self, action_name: str) -> None:
            """Nothing."""

    fit(small_brain(tmp_path, epochs=1, profiler=Own()))
    assert {"run_training_epoch", "run_training_batch"} <= Own.seen


def test_PassThroughProfiler(tmp_path: Path) -> None:
    profiler = profilers.PassThroughProfiler()
    brain = fit(small_brain(tmp_path, epochs=1, profiler=profiler))
    assert brain.trainer.profiler is profiler


def test_XLAProfiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the package, which needs a TPU."""
    traced: list[str] = []

    @contextlib.contextmanager
    def trace(name: str, step_num: int = 0) -> Iterator[None]:
        traced.append(name.rpartition(".")[2])
        yield

    package = ModuleType("torch_xla.debug.profiler")
    vars(package).update(Trace=trace, StepTrace=trace, start_server=lambda port: None)
    parents = {name: ModuleType(name) for name in ("torch_xla", "torch_xla.debug")}
    vars(parents["torch_xla.debug"])["profiler"] = package
    vars(parents["torch_xla"])["debug"] = parents["torch_xla.debug"]
    for name, module in {**parents, package.__name__: package}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(xla, "_XLA_AVAILABLE", True)
    fit(small_brain(tmp_path, epochs=1, profiler=profilers.XLAProfiler()))
    assert traced.count("training_step") == BATCHES
    assert traced.count("validation_step") == 2


@pytest.mark.parametrize("benchmark", [True, False])
def test_benchmark(tmp_path: Path, benchmark: bool) -> None:
    before = torch.backends.cudnn.benchmark
    try:
        fit(small_brain(tmp_path, epochs=1, benchmark=benchmark))
        assert torch.backends.cudnn.benchmark is benchmark
    finally:
        torch.backends.cudnn.benchmark = before


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_log_every_n_steps(tmp_path: Path) -> None:
    class Logging(SmallBrain):
        def on_fit_batch_end(self, *_: Any) -> None:
            self.log("of_batch", float(self.optimizer_step))

    fit(small_brain(tmp_path, Logging, epochs=2, logger="csv", log_every_n_steps=5))
    rows = logged(tmp_path)
    assert [row["of_batch"] for row in rows if "of_batch" in row] == [5.0, 10.0]


def test_trainer_stays_for_looking_at(tmp_path: Path) -> None:
    brain = small_brain(tmp_path, epochs=2)
    assert brain.trainer is None
    fit(brain)
    assert isinstance(brain.trainer, pl.Trainer)
    assert brain.trainer.current_epoch == 2
    assert brain.trainer.global_step == 2 * BATCHES
    assert brain.trainer.callback_metrics.keys() >= {"train_loss", "valid_loss"}


@pytest.mark.parametrize("options", [{"debug": True}, {"test_only": True}], ids=str)
def test_debug_and_test_only_with_callbacks_and_a_logger(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    seen: list[str] = []
    watching = callbacks.LambdaCallback(
        on_train_batch_end=lambda *_: seen.append("train"),
        on_validation_batch_end=lambda *_: seen.append("valid"),
        on_test_batch_end=lambda *_: seen.append("test"),
    )
    arguments = {"callbacks": [watching], "logger": "csv"}
    brain = fit(small_brain(tmp_path, options=options, **arguments))
    debugged = ["train"] * 2 + ["valid"] * 2
    assert seen == ([] if "test_only" in options else debugged * brain.debug_epochs)
    brain.evaluate(loader(8))
    assert seen[-2:] == ["test"] * 2
    assert any("test_loss" in row for row in logged(tmp_path))


HOOKS = (
    "on_fit_start",
    "on_stage_start",
    "on_fit_batch_start",
    "on_fit_batch_end",
    "compute_forward",
    "compute_objectives",
    "on_stage_end",
)


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_log_from_every_hook(tmp_path: Path) -> None:
    def logging_in(name: str) -> Any:
        def hook(self: Any, *arguments: Any, **options: Any) -> Any:
            stage = [each.name for each in arguments if isinstance(each, Stage)]
            self.log("_".join([name, *stage]), 1.5)
            return getattr(super(Own, self), name)(*arguments, **options)

        return hook

    Own: Any = type("Own", (SmallBrain,), {name: logging_in(name) for name in HOOKS})
    brain = fit(small_brain(tmp_path, Own, epochs=1, logger="csv", log_every_n_steps=1))
    brain.evaluate(loader(8))
    stages = [
        f"on_stage_{edge}_{stage}"
        for edge in ("start", "end")
        for stage in ("TRAIN", "VALID", "TEST")
    ]
    computed = [f"{name}_TRAIN" for name in ("compute_forward", "compute_objectives")]
    named = {key for row in logged(tmp_path) for key in row}
    wanted = {"on_fit_start", "on_fit_batch_start", "on_fit_batch_end", *stages, *computed}
    assert {name for name in wanted if not any(key.startswith(name) for key in named)} == set()
