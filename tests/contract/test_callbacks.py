"""Every callback of Lightning's, by its effect on a Brain."""

from __future__ import annotations

import json
import math
import re
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import callbacks
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import device_stats_monitor
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, IterableDataset

from brain_lightning import BrainModule, EpochCounter, Stage
from brain_lightning.ground import loggers
from brain_lightning.ground.errors import OptionError

from .lightning_features import CALLBACKS
from .small_brain import (
    BATCH,
    BATCHES,
    ITEMS,
    OwnSteps,
    Points,
    PointsModule,
    SmallBrain,
    fit,
    loader,
    network,
    small_brain,
    weights,
)

WITH_BARS = {"noprogressbar": False}


def test_every_callback_is_in_the_table_and_has_a_test() -> None:
    assert sorted(CALLBACKS) == sorted(callbacks.__all__)
    assert all(f"test_{name}" in globals() for name in CALLBACKS)


def logged(folder: Path) -> list[dict[str, float]]:
    """Return the rows that a CSVLogger in ``folder`` wrote, without their empty cells."""
    (path,) = folder.rglob("metrics.csv")
    head, *rows = (line.split(",") for line in path.read_text().splitlines())
    return [
        {key: float(value) for key, value in zip(head, row, strict=True) if value} for row in rows
    ]


def test_EarlyStopping(tmp_path: Path) -> None:
    stopper = callbacks.EarlyStopping("WER", mode="max", patience=1)  # it only gets lower
    brain = fit(small_brain(tmp_path, saves=True, epochs=9, callbacks=[stopper]))
    assert brain.hparams.counter.current == 2
    assert stopper.stopped_epoch == 1


def test_EarlyStopping_without_its_metric_says_which_there_are(tmp_path: Path) -> None:
    brain = small_brain(tmp_path, callbacks=[callbacks.EarlyStopping("CER")])
    with pytest.raises(RuntimeError, match=r"CER.*not available.*train_loss.*valid_loss"):
        fit(brain)


@pytest.mark.parametrize("monitor", ["train_loss", "valid_loss", "WER", "own"])
@pytest.mark.parametrize("at_validation_end", [True, False])
def test_ModelCheckpoint(tmp_path: Path, monitor: str, at_validation_end: bool) -> None:
    class Logging(SmallBrain):
        def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
            super().on_stage_end(stage, stage_loss, epoch)
            if stage is Stage.TRAIN and epoch is not None:
                self.log("own", float(epoch))

    keeper = callbacks.ModelCheckpoint(
        tmp_path / "kept",
        "{epoch}",
        monitor,
        save_top_k=2,
        mode="max",
        save_on_train_epoch_end=not at_validation_end,
    )
    values: list[tuple[float, int]] = []
    watching = callbacks.LambdaCallback(
        on_train_epoch_end=lambda trainer, _: values.append(
            (float(trainer.callback_metrics[monitor]), trainer.current_epoch)
        )
    )
    brain = fit(small_brain(tmp_path, Logging, saves=True, callbacks=[keeper, watching]))
    best = {f"epoch={epoch}.ckpt" for _, epoch in sorted(values)[-2:]}
    assert {path.name for path in (tmp_path / "kept").iterdir()} == best
    assert keeper.best_model_score == max(keeper.best_k_models.values())
    assert brain.trainer.checkpoint_callback is keeper


def test_ModelCheckpoint_every_n_train_steps(tmp_path: Path) -> None:
    keeper = callbacks.ModelCheckpoint(
        tmp_path, "{step}", every_n_train_steps=4, save_top_k=-1, save_last=True
    )
    fit(small_brain(tmp_path, callbacks=[keeper]))
    assert {path.name for path in tmp_path.glob("*.ckpt")} == {
        "step=4.ckpt",
        "step=8.ckpt",
        "step=12.ckpt",
        "last.ckpt",
    }


@pytest.mark.parametrize("recipe", [SmallBrain, OwnSteps])
def test_ModelCheckpoint_by_time(tmp_path: Path, recipe: type[SmallBrain]) -> None:
    keeper = callbacks.ModelCheckpoint(
        tmp_path, "{step}", train_time_interval=timedelta(0), save_top_k=-1
    )
    fit(small_brain(tmp_path, recipe, epochs=1, callbacks=[keeper]))
    assert len(list(tmp_path.glob("*.ckpt"))) == BATCHES


def test_ModelCheckpoint_without_its_metric_says_which_there_are(tmp_path: Path) -> None:
    brain = small_brain(tmp_path, callbacks=[callbacks.ModelCheckpoint(tmp_path, monitor="CER")])
    with pytest.raises(pl.utilities.exceptions.MisconfigurationException, match="valid_loss"):
        fit(brain)


def test_Checkpoint(tmp_path: Path) -> None:
    class Own(callbacks.Checkpoint):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt")

    fit(small_brain(tmp_path, callbacks=[Own()]))
    assert len(list(tmp_path.glob("*.ckpt"))) == 3


def test_OnExceptionCheckpoint(tmp_path: Path) -> None:
    class Failing(SmallBrain):
        def on_fit_batch_end(self, *_: Any) -> None:
            if self.optimizer_step == 3:
                raise OverflowError("as if by chance")

    saver = callbacks.OnExceptionCheckpoint(tmp_path)
    with pytest.raises(OverflowError):
        fit(small_brain(tmp_path, Failing, callbacks=[saver]))
    assert torch.load(saver.ckpt_path, weights_only=True)["brain_lightning"]["run"]["step"] == 2
    fit(small_brain(tmp_path, callbacks=[saver]))
    assert not Path(saver.ckpt_path).exists()  # its work is done


def test_LambdaCallback(tmp_path: Path) -> None:
    losses: list[float] = []

    def note(trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        assert batch[0].shape == (4, 3)
        assert index == len(losses) % BATCHES
        losses.append(float(outputs["loss"]))

    brain = fit(
        small_brain(tmp_path, callbacks=[callbacks.LambdaCallback(on_train_batch_end=note)])
    )
    average = sum(losses[-BATCHES:]) / BATCHES
    assert float(brain.trainer.callback_metrics["train_loss"]) == pytest.approx(average)


def test_Callback(tmp_path: Path) -> None:
    """Every hook comes, in the order in which Lightning documents them."""
    seen: list[str] = []
    hooks = [name for name in vars(pl.Callback) if name.startswith("on_")]
    own = type("Own", (pl.Callback,), {n: lambda *_, n=n: seen.append(n) for n in hooks})
    brain = small_brain(tmp_path, epochs=1, callbacks=[own()])
    brain.fit(brain.hparams.counter, [next(iter(loader()))], [next(iter(loader()))])
    assert seen == [
        "on_fit_start",
        "on_train_start",
        "on_train_epoch_start",
        "on_train_batch_start",
        "on_before_backward",
        "on_after_backward",
        "on_before_optimizer_step",
        "on_before_zero_grad",
        "on_train_batch_end",
        "on_validation_start",
        "on_validation_epoch_start",
        "on_validation_batch_start",
        "on_validation_batch_end",
        "on_validation_epoch_end",
        "on_validation_end",
        "on_train_epoch_end",
        "on_train_end",
        "on_fit_end",
    ]


def test_what_callbacks_find_in_checkpoints(tmp_path: Path) -> None:
    """In the Checkpointer's what Lightning's have: the callback need not know which it is."""
    found: list[set[str]] = []
    came_back: list[int] = []

    class Writing(pl.Callback):
        def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: Any) -> None:
            found.append(set(checkpoint))
            assert checkpoint["global_step"] == trainer.global_step
            assert len(checkpoint["optimizer_states"]) == 1
            checkpoint["steps"] = checkpoint["global_step"] + checkpoint["epoch"]

        def on_load_checkpoint(self, trainer: Any, module: Any, checkpoint: Any) -> None:
            assert checkpoint["callbacks"] == {}
            came_back.append(checkpoint["steps"] - checkpoint["epoch"])

    fit(small_brain(tmp_path, epochs=1, saves=True, callbacks=[Writing()]))
    brain = fit(small_brain(tmp_path, epochs=2, saves=True, callbacks=[Writing()]))
    assert came_back == [BATCHES]
    brain.trainer.save_checkpoint(tmp_path / "last.ckpt")
    *ours, theirs = found
    assert all(each == theirs - {"loops"} for each in ours)


def test_Timer(tmp_path: Path) -> None:
    class Slow(SmallBrain):
        def on_fit_batch_end(self, *_: Any) -> None:
            time.sleep(0.01)

    timer = callbacks.Timer(duration=timedelta(milliseconds=5), interval="step")
    brain = fit(small_brain(tmp_path, Slow, callbacks=[timer]))
    assert brain.optimizer_step == 1
    assert brain.calls[-1] == ("end", "VALID")
    assert timer.time_elapsed() > 0


def test_LearningRateMonitor(tmp_path: Path) -> None:
    class Halving(SmallBrain):
        def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
            if stage is Stage.VALID:
                self.optimizer.param_groups[0]["lr"] /= 2

    monitor = callbacks.LearningRateMonitor(logging_interval="epoch")
    fit(small_brain(tmp_path, Halving, logger="csv", callbacks=[monitor]))
    rates = [row["lr-Adam"] for row in logged(tmp_path) if "lr-Adam" in row]
    assert rates == [0.01, 0.005, 0.0025]


def test_DeviceStatsMonitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stats = {"cpu_percent": 12.5}  # as from psutil, which may not be installed
    monkeypatch.setattr(device_stats_monitor, "_PSUTIL_AVAILABLE", True)
    monkeypatch.setattr(CPUAccelerator, "get_device_stats", lambda *_: stats)
    monitor = callbacks.DeviceStatsMonitor(cpu_stats=True)
    fit(small_brain(tmp_path, logger="csv", callbacks=[monitor], log_every_n_steps=1))
    assert any("cpu_percent" in key for row in logged(tmp_path) for key in row)


def test_DeviceStatsMonitor_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_stats_monitor, "_PSUTIL_AVAILABLE", False)
    brain = small_brain(tmp_path, logger="csv", callbacks=[callbacks.DeviceStatsMonitor()])
    with pytest.raises(ModuleNotFoundError, match=r"psutil.*is not installed"):
        fit(brain)
    assert brain.optimizer_step == 0


@pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`")
@pytest.mark.parametrize("of", ["brain", "user"])
def test_DeviceStatsMonitor_of_the_cpu_without_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """Asked for in so many words, Lightning would look for it at the first batch."""
    monkeypatch.setattr(device_stats_monitor, "_PSUTIL_AVAILABLE", False)
    monitor = callbacks.DeviceStatsMonitor(cpu_stats=True)
    given = {"callbacks": [monitor]} if of == "brain" else {}
    brain = small_brain(tmp_path, logger="csv", log_every_n_steps=1, **given)
    own = pl.Trainer(
        accelerator="cpu", callbacks=[monitor], logger=CSVLogger(tmp_path), max_epochs=1
    )
    run = partial(fit, brain) if of == "brain" else partial(own.fit, BrainModule(brain), loader())
    with pytest.raises(ModuleNotFoundError, match=r"`pip install psutil`, or.*cpu_stats=False"):
        run()
    assert brain.optimizer_step == 0
    assert "calls" not in vars(brain)
    quiet = small_brain(tmp_path, callbacks=[callbacks.DeviceStatsMonitor(False)], logger="csv")
    fit(quiet)


def test_ThroughputMonitor(tmp_path: Path) -> None:
    monitor = callbacks.ThroughputMonitor(lambda batch: len(batch[0]), window_size=3)

    class Counted(SmallBrain):
        flops_per_batch = 1000

    fit(small_brain(tmp_path, Counted, logger="csv", callbacks=[monitor], log_every_n_steps=1))
    assert max(row.get("train/samples", 0) for row in logged(tmp_path)) == 3 * ITEMS


def test_ModelSummary(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(small_brain(tmp_path, callbacks=[callbacks.ModelSummary(max_depth=2)]))
    assert "brain_modules.backbone" in caplog.text
    assert "50" in caplog.text  # trainable parameters


def test_RichModelSummary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(small_brain(tmp_path, callbacks=[callbacks.RichModelSummary(max_depth=2)]))
    assert "brain_modules.head" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize("sized", [True, False])
def test_what_a_callback_sees_at_the_end_of_a_stage(tmp_path: Path, sized: bool) -> None:
    """The losses of the stage that ends, also before the module hears of it, and not older ones."""
    seen: list[tuple[str, dict[str, float], list[str]]] = []
    ended: list[float] = []

    class Noting(SmallBrain):
        def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
            super().on_stage_end(stage, stage_loss, epoch)
            ended.append(float(stage_loss))

    class Batches(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(loader(8))

    def note(hook: str) -> Any:
        def noting(trainer: pl.Trainer, _: Any) -> None:
            metrics = {
                name: float(value)
                for name, value in trainer.callback_metrics.items()
                if name.endswith("_loss")
            }
            seen.append((hook, metrics, sorted(trainer.progress_bar_metrics)))

        return noting

    hooks = ("on_validation_epoch_end", "on_validation_end", "on_test_epoch_end")
    watching = callbacks.LambdaCallback(**{hook: note(hook) for hook in hooks})
    brain = small_brain(tmp_path, Noting, epochs=2, dropout=0.0, callbacks=[watching])
    held_out = loader(8) if sized else DataLoader(Batches(), batch_size=None)
    brain.fit(brain.hparams.counter, loader(), held_out)
    brain.evaluate(held_out)
    shown = [
        {"train_loss": ended[0], "valid_loss": ended[1]},
        {"train_loss": ended[2], "valid_loss": ended[3]},
    ]
    assert [metrics for _, metrics, _ in seen[:4]] == [shown[0]] * 2 + [shown[1]] * 2
    assert seen[4][1]["test_loss"] == ended[4]
    assert "train_loss" in seen[0][2]


def test_TQDMProgressBar_shows_the_losses_of_its_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = callbacks.TQDMProgressBar(leave=True)
    brain = fit(small_brain(tmp_path, epochs=2, options=WITH_BARS, callbacks=[bar]))
    shown = "".join(capsys.readouterr()).replace("\r", "\n").splitlines()
    last = [line for line in shown if line.startswith("Epoch 1")][-1]
    for name in ("train_loss", "valid_loss"):
        (said,) = re.findall(rf"{name}=([\d.]+)", last)
        assert float(said) == pytest.approx(float(brain.trainer.callback_metrics[name]), rel=0.01)


@pytest.mark.parametrize("optimization", ["manual", "automatic"])
@pytest.mark.parametrize("hook", ["on_train_start", "on_train_epoch_start", "on_validation_end"])
def test_a_callback_that_replaces_the_optimizer(
    tmp_path: Path, hook: str, optimization: str
) -> None:
    """Where the Brain has it, it steps; where only Lightning would, that is said."""

    def other(module: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(module.parameters(), 0.5)

    def replace(trainer: pl.Trainer, module: Any) -> None:
        module.brain.optimizer = other(module)
        module.brain.optimizers_dict = {"opt_class": module.brain.optimizer}

    def replace_in_trainer(trainer: pl.Trainer, module: Any) -> None:
        trainer.optimizers = [other(module)]

    options = {"optimization": optimization}
    right, wrong = (
        callbacks.LambdaCallback(**{hook: act}) for act in (replace, replace_in_trainer)
    )
    brain = fit(small_brain(tmp_path, options=options, callbacks=[right]))
    assert [type(each) for each in brain.trainer.optimizers] == [torch.optim.SGD]
    with pytest.raises(ValueError, match=r"callback has set trainer\.optimizers to \['SGD'\], but"):
        fit(small_brain(tmp_path, options=options, callbacks=[wrong]))


@pytest.mark.parametrize("optimization", ["manual", "automatic"])
def test_a_callback_that_accumulates(tmp_path: Path, optimization: str) -> None:
    """``trainer.accumulate_grad_batches`` is the Brain's, from the batch on at which it is set."""

    class Accumulating(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, _: Any) -> None:
            trainer.accumulate_grad_batches = [1, 5, 1][trainer.current_epoch]

        def on_train_batch_start(self, trainer: pl.Trainer, _: Any, batch: Any, index: int) -> None:
            if trainer.current_epoch == 2 and index == 3:
                trainer.accumulate_grad_batches = 5

    options = {"optimization": optimization}
    brain = fit(small_brain(tmp_path, options=options, callbacks=[Accumulating()]))
    assert brain.optimizer_step == 5 + 1 + 4
    assert brain.grad_accumulation_factor == 1


def test_TQDMProgressBar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    brain = small_brain(tmp_path, options=WITH_BARS, callbacks=[callbacks.TQDMProgressBar()])
    fit(brain)
    shown = capsys.readouterr()
    assert "5/5" in shown.out + shown.err
    assert "valid_loss=" in shown.out + shown.err


def test_RichProgressBar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(small_brain(tmp_path, options=WITH_BARS, callbacks=[callbacks.RichProgressBar()]))
    assert "5/5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("epochs", "shown"),
    [
        (EpochCounter(2), "Epoch 1/1 "),
        (range(2), "Epoch 1/1 "),
        (range(5, 7), "Epoch 5/5 "),
        (iter([1, 2]), "Epoch 1 "),
    ],
    ids=["counter", "range", "later", "iterator"],
)
def test_RichProgressBar_counts_the_epochs(
    tmp_path: Path, epochs: Any, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = callbacks.RichProgressBar()
    brain = small_brain(tmp_path, options=WITH_BARS, callbacks=[bar])
    brain.fit(epochs, loader())
    out = capsys.readouterr().out
    assert "/-2" not in out
    assert shown in out
    own = pl.Trainer(
        accelerator="cpu",
        callbacks=[bar],
        logger=False,
        max_epochs=3,
        limit_val_batches=0,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
    )
    own.fit(BrainModule(brain), loader())
    assert "Epoch 2/2 " in capsys.readouterr().out


def test_ProgressBar(tmp_path: Path) -> None:
    class Counting(callbacks.ProgressBar):
        seen: list[Any] = []

        def disable(self) -> None:
            raise AssertionError("the main process shows it")

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            self.seen.append(self.total_train_batches)

    fit(small_brain(tmp_path, options=WITH_BARS, epochs=1, callbacks=[Counting()]))
    assert Counting.seen == [BATCHES] * BATCHES


@pytest.mark.parametrize("given_by", ["run_opts", "hparams", "nobody", "run_opts, not fit"])
def test_a_bar_where_none_is_wanted_for_the_run(
    tmp_path: Path,
    given_by: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command line goes before the YAML file, and the recipe's own call before both."""
    monkeypatch.setattr(loggers, "_given_warnings", set())
    modules = network()
    brain = SmallBrain(
        modules,
        lambda parameters: torch.optim.Adam(parameters, 0.01),
        {
            "counter": EpochCounter(1),
            "noprogressbar": given_by == "hparams",
            "trainer": {"callbacks": [callbacks.TQDMProgressBar()]},
        },
        {"device": "cpu", **({"noprogressbar": True} if "run_opts" in given_by else {})},
    )
    fit(brain, progressbar=True if "not fit" in given_by else None)
    shown = "".join(capsys.readouterr())
    assert ("5/5" in shown) == (given_by != "run_opts")
    said = "noprogressbar was given for this run, so the callback TQDMProgressBar is left out"
    assert (said in caplog.text) == (given_by == "run_opts")


def test_EMAWeightAveraging(tmp_path: Path) -> None:
    plain = fit(small_brain(tmp_path / "plain"))
    averaged = callbacks.EMAWeightAveraging(decay=0.5)
    brain = fit(small_brain(tmp_path / "averaged", callbacks=[averaged]))
    assert not any(map(torch.equal, weights(brain), weights(plain)))

    class Following(pl.Callback):
        def __init__(self) -> None:
            self.average: list[torch.Tensor] | None = None

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            now = weights(pl_module.brain)
            if self.average is None:
                self.average = now
            else:
                self.average = [(a + b) / 2 for a, b in zip(self.average, now, strict=True)]

    following = Following()
    fit(small_brain(tmp_path / "again", callbacks=[following]))
    assert following.average is not None
    torch.testing.assert_close(following.average, weights(brain))


def test_EMAWeightAveraging_before_its_first_update(tmp_path: Path) -> None:
    """Until then validation sees the weights as they are, and they are kept at the end."""
    late = callbacks.EMAWeightAveraging(update_starting_at_step=1000)
    brain = fit(small_brain(tmp_path / "1", callbacks=[late]))
    plain = fit(small_brain(tmp_path / "2"))
    assert all(map(torch.equal, weights(brain), weights(plain)))
    losses = [each.trainer.callback_metrics["valid_loss"] for each in (brain, plain)]
    assert losses[0] == losses[1]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_WeightAveraging(tmp_path: Path) -> None:
    """The average goes on exactly after a resume from either kind of checkpoint."""
    whole = fit(small_brain(tmp_path / "whole", callbacks=[callbacks.WeightAveraging()]))

    def keeper() -> callbacks.ModelCheckpoint:
        return callbacks.ModelCheckpoint(tmp_path / "kept", "{epoch}", save_top_k=-1)

    fit(small_brain(tmp_path, epochs=2, callbacks=[callbacks.WeightAveraging(), keeper()]))
    second = small_brain(tmp_path, callbacks=[callbacks.WeightAveraging(), keeper()])
    fit(second, ckpt_path=tmp_path / "kept" / "epoch=1.ckpt")
    assert all(map(torch.equal, weights(second), weights(whole)))


def test_WeightAveraging_goes_on_behind_the_checkpointers_checkpoint(tmp_path: Path) -> None:
    whole = fit(small_brain(tmp_path / "1", saves=True, callbacks=[callbacks.WeightAveraging()]))
    parts = [
        small_brain(tmp_path / "2", saves=True, epochs=n, callbacks=[callbacks.WeightAveraging()])
        for n in (2, 3)
    ]
    fit(parts[0])
    fit(parts[1])
    assert all(map(torch.equal, weights(parts[1]), weights(whole)))


def test_StochasticWeightAveraging(tmp_path: Path) -> None:
    averaging = callbacks.StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1)
    brain = fit(small_brain(tmp_path, epochs=4, callbacks=[averaging]))
    assert brain.trainer.lightning_module.automatic_optimization
    plain = fit(small_brain(tmp_path, epochs=4))
    assert not any(map(torch.equal, weights(brain), weights(plain)))


def test_GradientAccumulationScheduler(tmp_path: Path) -> None:
    scheduler = callbacks.GradientAccumulationScheduler({0: 1, 1: 2})
    brain = fit(small_brain(tmp_path, epochs=2, callbacks=[scheduler]))
    assert brain.trainer.lightning_module.automatic_optimization
    assert brain.optimizer_step == BATCHES + BATCHES // 2


def test_callbacks_that_need_automatic_optimization_name_the_override(tmp_path: Path) -> None:
    scheduler = callbacks.GradientAccumulationScheduler({0: 2})
    brain = small_brain(tmp_path, OwnSteps, callbacks=[scheduler])
    with pytest.raises(ValueError, match=r"GradientAccumulationScheduler.*OwnSteps.*fit_batch"):
        fit(brain)


def test_accumulation_is_set_once(tmp_path: Path) -> None:
    scheduler = callbacks.GradientAccumulationScheduler({0: 2})
    options = {"grad_accumulation_factor": 2}
    with pytest.raises(OptionError, match="grad_accumulation_factor is 2"):
        fit(small_brain(tmp_path, options=options, callbacks=[scheduler]))


def test_LearningRateFinder(tmp_path: Path) -> None:
    finder = callbacks.LearningRateFinder(num_training_steps=30)
    brain = fit(small_brain(tmp_path, saves=True, callbacks=[finder]))
    assert finder.optimal_lr is not None
    found = finder.optimal_lr.suggestion()
    assert brain.optimizer.param_groups[0]["lr"] == found

    def with_that_rate(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, found)

    options = {"optimization": "automatic"}
    plain = small_brain(tmp_path / "plain", saves=True, optimizer=with_that_rate, options=options)
    fit(plain)
    assert all(map(torch.equal, weights(brain), weights(plain)))  # trying out left no trace
    assert brain.calls.count(("end", "TRAIN")) == 3
    assert brain.optimizer_step == plain.optimizer_step


@pytest.mark.parametrize("recipe", [SmallBrain, OwnSteps])
def test_BatchSizeFinder(tmp_path: Path, recipe: type[SmallBrain]) -> None:
    """Training goes on with what was found as if the recipe had said so."""
    finder = callbacks.BatchSizeFinder(max_trials=3, steps_per_trial=1)
    brain = fit(small_brain(tmp_path / "1", recipe, saves=True, callbacks=[finder]))
    found = finder.optimal_batch_size
    assert found == 8
    assert brain.optimizer_step == 3 * math.ceil(ITEMS / found)
    assert brain.calls.count(("end", "TRAIN")) == 3
    assert finder not in brain.trainer.callbacks
    brain.evaluate(Points(8), test_loader_kwargs={"batch_size": BATCH})

    same = small_brain(tmp_path / "2", recipe, saves=True)
    torch.manual_seed(7)
    same.fit(
        same.hparams.counter,
        Points(),
        Points(8),
        train_loader_kwargs={"batch_size": found, "shuffle": True},
        valid_loader_kwargs={"batch_size": BATCH},
    )
    assert all(map(torch.equal, weights(brain), weights(same)))
    assert [path.name for path in tmp_path.rglob("*scale_batch*")] == []
    assert brain.checkpointer.recoverables.keys() == same.checkpointer.recoverables.keys()


def test_BatchSizeFinder_without_memory_for_more(tmp_path: Path) -> None:
    class Small(SmallBrain):
        def compute_forward(self, batch: Any, stage: Stage) -> torch.Tensor:
            if len(batch[0]) > 5:
                raise RuntimeError("CUDA out of memory.")
            return super().compute_forward(batch, stage)

    finder = callbacks.BatchSizeFinder("binsearch", steps_per_trial=1, margin=0)
    fit(small_brain(tmp_path, Small, epochs=1, callbacks=finder))
    assert finder.optimal_batch_size == 5


def test_BatchSizeFinder_with_a_datamodule(tmp_path: Path) -> None:
    finder = callbacks.BatchSizeFinder(max_trials=3, steps_per_trial=1)
    data = PointsModule(batch_size=2)
    brain = small_brain(tmp_path, callbacks=[finder])
    brain.fit(range(1), datamodule=data)
    assert data.batch_size == finder.optimal_batch_size == 8
    assert brain.optimizer_step == math.ceil(ITEMS / 8)


def test_BatchSizeFinder_where_nothing_can_be_found(tmp_path: Path) -> None:
    brain = small_brain(tmp_path, callbacks=[callbacks.BatchSizeFinder()])
    with pytest.raises(OptionError, match=r"BatchSizeFinder needs.*given a loader as train_set"):
        brain.fit(range(1), loader())
    with pytest.raises(OptionError, match=r"given no batch_size in train_loader_kwargs"):
        brain.fit(range(1), Points(), train_loader_kwargs={"shuffle": True})

    class Later(callbacks.BatchSizeFinder):
        def on_fit_start(self, *_: Any) -> None:
            """Nothing: it comes in another epoch."""

    with pytest.raises(OptionError, match=r"Later overrides on_fit_start\(\)"):
        small_brain(tmp_path, callbacks=[Later()])


def test_BackboneFinetuning(tmp_path: Path) -> None:
    finetuning = callbacks.BackboneFinetuning(
        unfreeze_backbone_at_epoch=2, backbone_initial_lr=1e-3, lambda_func=lambda epoch: 1.0
    )
    start = network()["backbone"][0].weight  # type: ignore[index]
    after: list[bool] = []
    watching = callbacks.LambdaCallback(
        on_train_epoch_end=lambda trainer, module: after.append(
            torch.equal(module.backbone[0].weight, start)
        )
    )
    brain = fit(small_brain(tmp_path, callbacks=[finetuning, watching]))
    assert after == [True, True, False]
    rates = [group["lr"] for group in brain.optimizer.param_groups]
    assert rates == [0.01, 1e-3]


def test_BaseFinetuning(tmp_path: Path) -> None:
    class HeadLater(callbacks.BaseFinetuning):
        def freeze_before_training(self, pl_module: Any) -> None:
            self.freeze(pl_module.head)

        def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
            if epoch == 1:
                self.unfreeze_and_add_param_group(pl_module.head, optimizer, lr=0.5)

    brain = fit(small_brain(tmp_path, callbacks=[HeadLater()]))
    assert [group["lr"] for group in brain.optimizer.param_groups] == [0.01, 0.5]


def test_ModelPruning(tmp_path: Path) -> None:
    pruning = callbacks.ModelPruning(
        "l1_unstructured", amount=0.5, use_lottery_ticket_hypothesis=False
    )
    brain = fit(small_brain(tmp_path, epochs=1, callbacks=[pruning]))
    zeros = sum(int((parameter == 0).sum()) for parameter in brain.modules.parameters())
    assert zeros >= 0.4 * 50


@pytest.mark.parametrize("library", ["brain_lightning", "speechbrain.utils.checkpoints"])
def test_ModelPruning_beside_a_checkpointer(tmp_path: Path, library: str) -> None:
    """What is saved while modules are pruned is evaluated, and training goes on with its masks.

    With SpeechBrain's Checkpointer, too, as after a port by one line.
    """
    make = pytest.importorskip(library).Checkpointer

    class Ending(SmallBrain):
        ends = False

        def compute_forward(self, batch: Any, stage: Stage) -> torch.Tensor:
            epoch = self.hparams.counter.current
            if self.ends and stage is Stage.TRAIN and (epoch, self.step) == (3, 3):
                raise KeyError("ended")
            return super().compute_forward(batch, stage)

    def pruned(folder: Path, ends: bool = False) -> SmallBrain:
        pruning = callbacks.ModelPruning(
            "l1_unstructured", amount=0.5, use_lottery_ticket_hypothesis=False
        )
        options = {"ckpt_interval_steps": 1, "async_checkpoint": False}
        brain = small_brain(
            folder,
            Ending,
            saves=True,
            options=options,
            make_checkpointer=make,
            callbacks=[pruning],
        )
        assert isinstance(brain, Ending)
        brain.ends = ends
        return brain

    whole = fit(pruned(tmp_path / "whole"))
    at_the_end = weights(whole)
    whole.evaluate(Points(8), min_key="WER", test_loader_kwargs={"batch_size": 4})
    anew = pruned(tmp_path / "whole")
    anew.evaluate(Points(8), min_key="WER", test_loader_kwargs={"batch_size": 4})
    tested = [each.trainer.callback_metrics["test_loss"] for each in (whole, anew)]
    assert tested[0] == tested[1]
    with pytest.raises(KeyError, match="ended"):
        fit(pruned(tmp_path / "cut", ends=True))
    resumed = weights(fit(pruned(tmp_path / "cut")))
    assert all(torch.equal(a, b) for a, b in zip(at_the_end, resumed, strict=True))
    assert sum(int((each == 0).sum()) for each in resumed) >= 0.8 * 50


def test_SpikeDetection(tmp_path: Path) -> None:
    class Spiking(SmallBrain):
        def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
            loss = super().compute_objectives(predictions, batch, stage)
            return loss * (1000.0 if stage is Stage.TRAIN and self.step == 4 else 1.0)

    detection = callbacks.SpikeDetection(exclude_batches_path=tmp_path / "skip.json")
    brain = small_brain(tmp_path, Spiking, callbacks=[detection])
    with pytest.raises(RuntimeError, match="spike"):
        fit(brain)
    assert json.loads((tmp_path / "skip.json").read_text()) == [2, 3]


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_BasePredictionWriter(tmp_path: Path) -> None:
    class Writer(callbacks.BasePredictionWriter):
        def write_on_batch_end(
            self, trainer: Any, pl_module: Any, prediction: Any, *_: Any
        ) -> None:
            torch.save(prediction, tmp_path / f"{_[2]}.pt")

    brain = small_brain(tmp_path)
    trainer = pl.Trainer(
        callbacks=[Writer("batch")],
        logger=CSVLogger(tmp_path),
        enable_progress_bar=False,
        accelerator="cpu",
        enable_checkpointing=False,
    )
    trainer.predict(BrainModule(brain), loader(8))
    written = torch.load(tmp_path / "1.pt")
    brain.modules.eval()
    batch = list(loader(8))[1]
    torch.testing.assert_close(written, brain.predict_batch(batch))
