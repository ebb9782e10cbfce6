"""Arguments of ``lightning.Trainer`` that are given to a Brain."""

from __future__ import annotations

import inspect
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import callbacks, profilers

from brain_lightning import Stage, parse_arguments
from brain_lightning.engine.trainer.trainer_configuration import FIXED
from brain_lightning.ground.errors import OptionError

from .ignored_arguments import HERE, TESTS
from .lightning_features import PROFILERS, TRAINER_ARGUMENTS
from .small_brain import (
    BATCH,
    BATCHES,
    Points,
    SmallBrain,
    fit,
    loader,
    network,
    small_brain,
    weights,
)


class Counting(SmallBrain):
    """Counts the batches of each stage, and where validation came."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.batches = dict.fromkeys(Stage, 0)
        self.validated_at: list[int] = []
        self.seen: list[float] = []

    def compute_forward(self, batch: Any, stage: Stage) -> torch.Tensor:
        self.batches[stage] += 1
        if stage is Stage.TRAIN:
            self.seen.append(float(batch[0].sum()))
        return super().compute_forward(batch, stage)

    def on_stage_start(self, stage: Stage, epoch: int | None = None) -> None:
        super().on_stage_start(stage, epoch)
        if stage is Stage.VALID:
            self.validated_at.append(self.batches[Stage.TRAIN])


def counting(folder: Path, **options: Any) -> Any:
    return small_brain(folder, Counting, **options)


def test_every_argument_is_in_the_table() -> None:
    arguments = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    assert set(TRAINER_ARGUMENTS) == arguments


def test_every_argument_has_a_test_of_its_effect() -> None:
    """``test_tests_notice`` shows that it fails where the argument is ignored."""
    assert set(TESTS) == set(TRAINER_ARGUMENTS)
    for place in TESTS.values():
        file, _, function = place.partition("::")
        assert f"\ndef {function}(" in (HERE / file).read_text(encoding="utf-8")


@pytest.mark.long
def test_tests_notice() -> None:
    """Each argument's test fails where the argument is ignored."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.contract.ignored_arguments"],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_what_the_table_calls_refused_is_refused(tmp_path: Path) -> None:
    values = {"precision": "bf16-mixed", "inference_mode": True, "use_distributed_sampler": True}
    for name, entry in TRAINER_ARGUMENTS.items():
        if entry.status == "refused":
            with pytest.raises(OptionError, match=rf"{name}=.* cannot be set"):
                small_brain(tmp_path, **{name: values.get(name, 2)})
        if name in FIXED:
            assert entry.status in ("refused", "own Trainer")


def test_max_steps(tmp_path: Path) -> None:
    brain = fit(counting(tmp_path, max_steps=7))
    assert brain.optimizer_step == 7
    assert brain.calls[-1] == ("end", "TRAIN")


def test_max_time(tmp_path: Path) -> None:
    class Slow(Counting):
        def on_fit_batch_end(self, *_: Any) -> None:
            time.sleep(0.3 if self.optimizer_step == 7 else 0)

    brain = fit(small_brain(tmp_path, Slow, epochs=40, max_time={"milliseconds": 300}))
    assert brain.optimizer_step <= 7  # fewer on a machine that is busy
    assert brain.calls[-1] == ("end", "VALID")


def test_min_steps_holds_early_stopping_off(tmp_path: Path) -> None:
    stopper = callbacks.EarlyStopping("WER", mode="max", patience=1)
    brain = small_brain(tmp_path, saves=True, epochs=6, min_steps=20, callbacks=[stopper])
    assert fit(brain).optimizer_step == 20


@pytest.mark.parametrize(("limit", "batches"), [(2, 2), (0.4, 2)])
def test_limit_batches(tmp_path: Path, limit: float, batches: int) -> None:
    brain = counting(
        tmp_path,
        limit_train_batches=limit,
        limit_val_batches=1,
        limit_test_batches=1,
        epochs=2,
    )
    fit(brain)
    brain.evaluate(Points(), test_loader_kwargs={"batch_size": BATCH})
    assert list(brain.batches.values()) == [2 * batches, 2, 1]
    assert brain.validated_at == [batches, 2 * batches]


def test_fast_dev_run(tmp_path: Path) -> None:
    brain = fit(counting(tmp_path, fast_dev_run=True))
    assert list(brain.batches.values()) == [1, 1, 0]
    assert list(tmp_path.rglob("*.ckpt")) == []


def test_overfit_batches(tmp_path: Path) -> None:
    brain = fit(counting(tmp_path, overfit_batches=2))
    assert len(brain.seen) == 6
    assert brain.seen[:2] == brain.seen[2:4] == brain.seen[4:]
    assert brain.seen[0] != brain.seen[1]


def test_check_val_every_n_epoch(tmp_path: Path) -> None:
    brain = fit(counting(tmp_path, epochs=4, check_val_every_n_epoch=2))
    assert brain.validated_at == [2 * BATCHES, 4 * BATCHES]


def test_val_interval_steps(tmp_path: Path) -> None:
    """Counted over epochs, as steps are; the weights are those without it."""
    brain = fit(counting(tmp_path, options={"val_interval_steps": 4}))
    assert brain.validated_at == [4, 8, 12]
    plain = fit(counting(tmp_path / "plain"))
    assert brain.batches[Stage.TRAIN] == plain.batches[Stage.TRAIN]


@pytest.mark.parametrize(
    ("interval", "validated_at"),
    [
        ({"options": {"val_interval_steps": 3}}, [3, 6, 7]),
        ({"options": {"val_interval_steps": 7}}, [7]),
        ({"val_check_interval": 3}, [3, 7]),
        ({"val_check_interval": 2}, [2, 4, 7]),
        ({}, [5, 7]),
    ],
    ids=str,
)
def test_the_limit_of_optimizer_steps_ends_with_a_validation(
    tmp_path: Path, interval: dict[str, Any], validated_at: list[int]
) -> None:
    options = {**interval.pop("options", {}), "optimizer_step_limit": 7}
    brain = fit(counting(tmp_path, saves=True, options=options, **interval))
    assert brain.validated_at == validated_at
    assert brain.optimizer_step == 7
    assert brain.checkpointer.find_checkpoint().meta["end-of-epoch"]
    again = counting(tmp_path, saves=True, options=options, **interval)
    fit(again)
    assert again.optimizer_step == 7


@pytest.mark.parametrize(
    ("arguments", "validated_at"),
    [
        ({"val_check_interval": 2}, [2, 4, 7, 9, 12, 14]),
        ({"val_check_interval": 0.4}, [2, 4, 7, 9, 12, 14]),
        ({"val_check_interval": 1.0}, [5, 10, 15]),
        ({"val_check_interval": 5}, [5, 10, 15]),
        ({"val_check_interval": 4, "check_val_every_n_epoch": None}, [4, 8, 12]),
        ({"val_check_interval": 0.5, "check_val_every_n_epoch": 2}, [7, 9]),
        ({"val_check_interval": 2, "limit_train_batches": 3}, [2, 5, 8]),
    ],
    ids=str,
)
def test_val_check_interval(
    tmp_path: Path, arguments: dict[str, Any], validated_at: list[int]
) -> None:
    """As in Lightning."""
    brain = fit(counting(tmp_path, saves=True, **arguments))
    assert brain.validated_at == validated_at
    assert brain.batches[Stage.TRAIN] == 3 * arguments.get("limit_train_batches", BATCHES)


class Stream(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(Points())


def test_val_check_interval_of_a_loader_without_a_length(tmp_path: Path) -> None:
    data: dict[str, Any] = {"train_loader_kwargs": {"batch_size": BATCH}, "valid_set": loader(8)}
    brain = counting(tmp_path, epochs=2, val_check_interval=2)
    brain.fit(brain.hparams.counter, Stream(), **data)
    assert brain.validated_at == [2, 4, 7, 9]
    brain = counting(tmp_path, epochs=1, val_check_interval=0.5)
    with pytest.raises(Exception, match=r"must be time based, `1\.0` or an int"):
        brain.fit(brain.hparams.counter, Stream(), **data)


def test_val_check_interval_by_time(tmp_path: Path) -> None:
    if "timedelta" not in str(inspect.signature(pl.Trainer).parameters["val_check_interval"]):
        pytest.skip("this version of Lightning has no such intervals")
    at_once = {"microseconds": 1}
    brain = fit(counting(tmp_path, epochs=2, val_check_interval=at_once))
    assert brain.validated_at == list(range(1, 11))
    assert fit(counting(tmp_path, val_check_interval="00:01:00:00")).validated_at == []


def test_val_check_interval_given_twice(tmp_path: Path) -> None:
    for argument in ({"val_check_interval": 4}, {"check_val_every_n_epoch": 2}):
        with pytest.raises(OptionError, match=r"_val_every_n|val_check_.*option 'val_interval_ste"):
            counting(tmp_path, options={"val_interval_steps": 4}, **argument)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"val_check_interval": 4}, r"trainer\.val_check_interval=4"),
        ({"check_val_every_n_epoch": 2}, r"trainer\.check_val_every_n_epoch=2"),
        ({"options": {"val_interval_steps": 3}}, "val_interval_steps=3"),
    ],
)
def test_intervals_of_a_recipe_that_validates_itself(
    tmp_path: Path, arguments: dict[str, Any], named: str
) -> None:
    class Validating(Counting):
        def _fit_valid(self, valid_set: Any, epoch: int, enable: bool) -> None:
            super()._fit_valid(valid_set, epoch, enable)

    brain = small_brain(tmp_path, Validating, **arguments)
    with pytest.raises(OptionError, match=rf"{named} cannot be had.*_fit_valid \(test_trainer_ar"):
        fit(brain)
    assert brain.optimizer_step == 0


def test_detect_anomaly(tmp_path: Path) -> None:
    class Undefined(SmallBrain):
        def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
            return torch.sqrt(0 * predictions).sum()

    with (
        pytest.warns(UserWarning, match="Error detected"),
        pytest.raises(RuntimeError, match="nan"),
    ):
        fit(small_brain(tmp_path, Undefined, detect_anomaly=True))


class Undetermined(SmallBrain):
    """Does what torch cannot do in a determined order."""

    def compute_forward(self, batch: Any, stage: Stage) -> torch.Tensor:
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))
        return super().compute_forward(batch, stage)


@pytest.mark.parametrize("way", [True, "warn", False, None])
def test_deterministic(tmp_path: Path, way: Any) -> None:
    brain = small_brain(tmp_path, Undetermined, deterministic=way, epochs=1)
    try:
        if way is True:
            with pytest.raises(RuntimeError, match=r"put_.* deterministic"):
                fit(brain)
        elif way == "warn":
            with pytest.warns(UserWarning, match=r"put_.* deterministic"):
                fit(brain)
        else:
            assert fit(brain).optimizer_step == BATCHES
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


def test_benchmark_is_never_on_by_itself(tmp_path: Path) -> None:
    fit(small_brain(tmp_path, epochs=1))
    assert not torch.backends.cudnn.benchmark


def test_enable_model_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(small_brain(tmp_path, epochs=1, enable_model_summary=True))
    shown = capsys.readouterr()
    assert "brain_modules" in (shown.out + shown.err).replace("\n", "")


def test_enable_checkpointing(tmp_path: Path) -> None:
    fit(small_brain(tmp_path, enable_checkpointing=True))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["epoch=2-step=15.ckpt"]


def test_every_profiler_is_in_the_table() -> None:
    assert sorted(PROFILERS) == sorted(profilers.__all__)


@pytest.mark.parametrize(
    ("name", "text"), [("simple", "run_training_batch"), ("advanced", "run_training_batch")]
)
def test_profilers(tmp_path: Path, name: str, text: str) -> None:
    fit(small_brain(tmp_path, epochs=1, profiler=name))
    assert text in (tmp_path / f"fit-{name}.txt").read_text()


@pytest.mark.filterwarnings("ignore")
def test_pytorch_profiler(tmp_path: Path) -> None:
    fit(small_brain(tmp_path, epochs=1, profiler="pytorch"))
    assert "aten::addmm" in (tmp_path / "fit-pytorch.txt").read_text()


def test_unknown_profiler(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="Did you mean 'simple'"):
        small_brain(tmp_path, profiler="simpel")


def test_unknown_argument_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no argument 'max_step'\. Did you mean 'max_steps'"):
        small_brain(tmp_path, max_step=3)


def test_a_callback_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="callbacks must be objects"):
        small_brain(tmp_path, callbacks=["EarlyStopping"])


def test_three_places_the_later_wins(tmp_path: Path) -> None:
    _, run_opts, _ = parse_arguments(
        [
            "h.yaml",
            "--device",
            "cpu",
            "--noprogressbar",
            "--trainer.max_steps",
            "3",
            "--trainer.logger",
            "csv",
        ]
    )
    hparams = {"trainer": {"max_steps": 1, "limit_val_batches": 1}, "output_folder": str(tmp_path)}
    brain = Counting(
        network(),
        lambda parameters: torch.optim.Adam(parameters, 0.01),
        hparams,
        run_opts,
        trainer={"max_steps": 2, "check_val_every_n_epoch": 1},
    )
    brain.fit(range(1), loader(), loader())
    assert brain.optimizer_step == 3
    assert brain.trainer.limit_val_batches == 1
    assert list(tmp_path.rglob("metrics.csv"))


def test_automatic_optimization_gives_the_same_numbers(tmp_path: Path) -> None:
    manual = fit(small_brain(tmp_path / "1", options={"grad_accumulation_factor": 2}))
    options = {"grad_accumulation_factor": 2, "optimization": "automatic"}
    automatic = fit(small_brain(tmp_path / "2", options=options))
    assert automatic.trainer.lightning_module.automatic_optimization
    assert all(map(torch.equal, weights(manual), weights(automatic)))


def test_manual_and_automatic_at_once(tmp_path: Path) -> None:
    needs = callbacks.GradientAccumulationScheduler({0: 2})
    brain = small_brain(tmp_path, options={"optimization": "manual"}, callbacks=[needs])
    with pytest.raises(ValueError, match=r"GradientAccumulationScheduler.*optimization='manual'"):
        fit(brain)


def test_levels_of_logging_are_put_back(tmp_path: Path) -> None:
    names = ("lightning.pytorch", "lightning.pytorch.callbacks")
    before = [logging.getLogger(name).level for name in names]
    fit(small_brain(tmp_path, epochs=1, callbacks=[callbacks.ModelSummary()]))
    assert [logging.getLogger(name).level for name in names] == before
