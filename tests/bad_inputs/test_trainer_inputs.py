"""Trainer arguments that cannot work are refused when the Brain is made."""

from __future__ import annotations

import inspect
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy
import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import DoublePrecision
from lightning.pytorch.profilers import SimpleProfiler

from brain_lightning import Brain, BrainModule, Stage, parse_arguments
from brain_lightning.engine.trainer.trainer_configuration import check_trainer_mapping
from brain_lightning.ground.errors import OptionError
from brain_lightning.parts.options.parser import CommandLineError

from ..contract.small_brain import SmallBrain, loader

CASES: list[tuple[dict[str, Any], str]] = [
    ({"max_steps": "abc"}, r"max_steps is 'abc' \(of type str\); it must be an integer\.$"),
    ({"max_steps": None}, "max_steps is None .*an integer"),
    ({"max_steps": 1.5}, "max_steps is 1.5 .*an integer"),
    ({"max_steps": True}, "max_steps is True .*an integer"),
    ({"min_epochs": "2"}, "min_epochs is '2' .*an integer"),
    ({"limit_val_batches": "half"}, "limit_val_batches is 'half' .*an integer or a number"),
    ({"overfit_batches": [2]}, "overfit_batches is .* an integer or a number"),
    ({"detect_anomaly": "yes"}, "detect_anomaly is 'yes' .*true or false"),
    ({"benchmark": 3}, "benchmark is 3 .*true or false"),
    ({"deterministic": "sometimes"}, "deterministic is 'sometimes' .*true or false or 'warn'"),
    ({"fast_dev_run": "on"}, "fast_dev_run is 'on' .*an integer or true or false"),
    ({"default_root_dir": 5}, "default_root_dir is 5 .*a string or a path"),
    ({"max_time": 3600}, 'max_time is 3600 .*"DD:HH:MM:SS"'),
    ({"max_time": "1h"}, "max_time is '1h'.* \"DD:HH:MM:SS\""),
    ({"val_check_interval": "soon"}, "val_check_interval is 'soon'.* such as 0.25, or a duration"),
    ({"val_check_interval": 0}, "val_check_interval is 0; it must be more than zero"),
    ({"check_val_every_n_epoch": -1}, "check_val_every_n_epoch is -1; .* limit_val_batches: 0"),
    ({"sync_batchnorm": "cpu"}, "sync_batchnorm is 'cpu' .*true or false"),
    ({"plugins": [DoublePrecision()]}, "the plugin DoublePrecision .*run option 'precision'"),
]


@pytest.mark.parametrize(("trainer", "said"), CASES, ids=lambda value: str(value)[:40])
def test_refused(trainer: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=f"trainer: {said}"):
        Brain(run_opts={"device": "cpu"}, trainer=trainer)


def test_refused_on_the_command_line() -> None:
    with pytest.raises(CommandLineError, match="trainer: max_steps is 'abc'"):
        parse_arguments(["h.yaml", "--device=cpu", "--trainer.max_steps", "abc"])


GOOD: dict[str, list[Any]] = {
    "max_time": ["00:01:00:00", {"hours": 1}, timedelta(hours=1), None],
    "deterministic": ["warn", True, None],
    "default_root_dir": ["somewhere", Path("somewhere")],
    "limit_train_batches": [2, 0.5, numpy.int64(3), None],
    "devices": [1, "1", "auto"],
    "logger": ["csv", False, ["csv"]],
}


@pytest.mark.parametrize("name", GOOD)
def test_taken_as_it_is(name: str) -> None:
    for value in GOOD[name]:
        assert check_trainer_mapping({name: value}) == {name: value}


def test_every_default_of_lightnings_is_taken() -> None:
    parameters = inspect.signature(pl.Trainer.__init__).parameters.values()
    free = {each.name: each.default for each in parameters if each.default is None}
    owned = ("precision", "gradient_clip", "enable_progress", "max_epochs", "use_dist")
    free = {name: value for name, value in free.items() if not name.startswith(owned)}
    free.pop("num_sanity_val_steps")
    assert check_trainer_mapping(free) == free


def test_whole_numbers_as_yaml_reads_them() -> None:
    """1e3 is a floating point number there."""
    taken = check_trainer_mapping({"max_steps": 1e3, "limit_val_batches": 1.0})
    assert taken == {"max_steps": 1000, "limit_val_batches": 1.0}
    assert isinstance(taken["max_steps"], int)
    assert isinstance(taken["limit_val_batches"], float)  # all of them, not one


@pytest.mark.parametrize("value", [5, {"csv": True}, CSVLogger, Path("x"), ["csv", 5]], ids=str)
def test_a_logger_must_be_one(value: Any) -> None:
    with pytest.raises(OptionError, match=r"trainer\.logger is .*CSVLogger.*!new:.*csv, tensorb"):
        Brain(run_opts={"device": "cpu"}, trainer={"logger": value})


@pytest.mark.parametrize(
    "value", [5, SimpleProfiler, object()], ids=lambda each: type(each).__name__
)
def test_a_profiler_must_be_one(value: Any) -> None:
    with pytest.raises(OptionError, match=r"trainer\.profiler is .*SimpleProfiler.*simple, adv"):
        Brain(run_opts={"device": "cpu"}, trainer={"profiler": value})


def test_names_that_cannot_be_had_are_not_offered() -> None:
    with pytest.raises(OptionError, match=r"csv, tensorboard, mlflow, wandb, comet\. Did"):
        Brain(run_opts={"device": "cpu"}, trainer={"logger": "kometa"})


@pytest.mark.parametrize("name", ["callbacks", "logger", "plugins"])
def test_objects_are_not_made_on_the_command_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["h.yaml", f"--trainer.{name}", "!new:lightning.pytorch.callbacks.Timer"])
    said = " ".join(capsys.readouterr().err.split())
    assert "names an object, which a command line cannot make; write it into the file" in said


def test_a_callback_that_misses_an_entry_of_modules(tmp_path: Path) -> None:
    class Other(SmallBrain):
        def compute_forward(self, batch: Any, stage: Stage) -> torch.Tensor:
            return self.modules.model(batch[0])  # type: ignore[no-any-return]

    brain = Other(
        {"model": torch.nn.Linear(3, 2)},
        lambda parameters: torch.optim.SGD(parameters, 0.1),
        run_opts={"device": "cpu"},
        trainer={"callbacks": BackboneFinetuning()},
    )
    with pytest.raises(AttributeError, match=r"Other has no entry 'backbone' .*are model"):
        brain.fit(range(1), loader())
    assert brain.optimizer_step == 0
    assert not hasattr(BrainModule(brain), "head")
    assert BrainModule(brain).model is brain.modules.model
