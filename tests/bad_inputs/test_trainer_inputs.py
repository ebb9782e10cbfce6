"""Trainer arguments that cannot work are refused when the Brain is made."""

from __future__ import annotations

import inspect
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy
import pytest

from brain_lightning import Brain, parse_arguments
from brain_lightning.engine.trainer_configuration import check_trainer_mapping
from brain_lightning.ground.errors import OptionError

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
    ({"sync_batchnorm": "cpu"}, "sync_batchnorm is 'cpu' .*true or false"),
]


@pytest.mark.parametrize(("trainer", "said"), CASES, ids=lambda value: str(value)[:40])
def test_refused(trainer: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=f"trainer: {said}"):
        Brain(run_opts={"device": "cpu"}, trainer=trainer)


def test_refused_on_the_command_line() -> None:
    _, run_opts, _ = parse_arguments(["h.yaml", "--device=cpu", "--trainer.max_steps", "abc"])
    with pytest.raises(OptionError, match="trainer: max_steps is 'abc'"):
        Brain(run_opts=run_opts)


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
    owned = ("precision", "gradient_clip", "val_check", "enable_progress", "max_epochs", "use_dist")
    free = {name: value for name, value in free.items() if not name.startswith(owned)}
    free.pop("num_sanity_val_steps")
    assert check_trainer_mapping(free) == free


def test_whole_numbers_as_yaml_reads_them() -> None:
    """1e3 is a floating point number there."""
    taken = check_trainer_mapping({"max_steps": 1e3, "limit_val_batches": 1.0})
    assert taken == {"max_steps": 1000, "limit_val_batches": 1.0}
    assert isinstance(taken["max_steps"], int)
    assert isinstance(taken["limit_val_batches"], float)  # all of them, not one
