"""Trains as if an argument of ``lightning.Trainer`` were ignored: its tests must notice.

``python -m tests.contract.ignored_arguments [ARGUMENT ...]`` prints the arguments whose tests pass
all the same. An argument is dropped from what a user gives as ``trainer`` and from what
a test calls ``lightning.Trainer`` with.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest

from brain_lightning.facade import brain_options

HERE = Path(__file__).parent
_ARGUMENTS, _HANDED_ON, _OWN = (
    f"test_{name}.py::" for name in ("trainer_arguments", "handed_on_arguments", "own_trainer")
)

TESTS: Mapping[str, str] = {
    "accelerator": _HANDED_ON + "test_another_accelerator_than_the_brains_device",
    "accumulate_grad_batches": _OWN + "test_accumulation_and_clipping_are_the_trainers",
    "barebones": _OWN + "test_barebones",
    "benchmark": _HANDED_ON + "test_benchmark",
    "callbacks": "test_callbacks.py::test_LambdaCallback",
    "check_val_every_n_epoch": _ARGUMENTS + "test_check_val_every_n_epoch",
    "default_root_dir": _HANDED_ON + "test_default_root_dir",
    "detect_anomaly": _ARGUMENTS + "test_detect_anomaly",
    "deterministic": _ARGUMENTS + "test_deterministic",
    "devices": _HANDED_ON + "test_several_of_them_need_a_launcher",
    "enable_autolog_hparams": _HANDED_ON + "test_enable_autolog_hparams",
    "enable_checkpointing": _ARGUMENTS + "test_enable_checkpointing",
    "enable_model_summary": _ARGUMENTS + "test_enable_model_summary",
    "enable_progress_bar": _HANDED_ON + "test_enable_progress_bar_of_your_own_trainer",
    "fast_dev_run": _ARGUMENTS + "test_fast_dev_run",
    "gradient_clip_algorithm": _OWN + "test_clipping_is_the_trainers",
    "gradient_clip_val": _OWN + "test_clipping_is_the_trainers",
    "inference_mode": _HANDED_ON + "test_inference_mode_of_your_own_trainer",
    "limit_predict_batches": _HANDED_ON + "test_limit_predict_batches",
    "limit_test_batches": _ARGUMENTS + "test_limit_batches",
    "limit_train_batches": _ARGUMENTS + "test_limit_batches",
    "limit_val_batches": _ARGUMENTS + "test_limit_batches",
    "log_every_n_steps": _HANDED_ON + "test_log_every_n_steps",
    "logger": "test_loggers.py::test_CSVLogger_object",
    "max_epochs": _OWN + "test_fit",
    "max_steps": _ARGUMENTS + "test_max_steps",
    "max_time": _ARGUMENTS + "test_max_time",
    "min_epochs": _HANDED_ON + "test_min_epochs_holds_early_stopping_off",
    "min_steps": _ARGUMENTS + "test_min_steps_holds_early_stopping_off",
    "model_registry": _HANDED_ON + "test_model_registry_is_lightnings",
    "num_nodes": _HANDED_ON + "test_several_of_them_need_a_launcher",
    "num_sanity_val_steps": _OWN + "test_fit",
    "overfit_batches": _ARGUMENTS + "test_overfit_batches",
    "plugins": _HANDED_ON + "test_plugins",
    "precision": _OWN + "test_limits_and_precision_are_the_trainers",
    "profiler": _ARGUMENTS + "test_profilers",
    "reload_dataloaders_every_n_epochs": _HANDED_ON + "test_reload_dataloaders_every_n_epochs",
    "strategy": _HANDED_ON + "test_strategy_of_the_users_own",
    "sync_batchnorm": _HANDED_ON + "test_sync_batchnorm_of_your_own_trainer",
    "use_distributed_sampler": _HANDED_ON + "test_use_distributed_sampler_of_your_own_trainer",
    "val_check_interval": _ARGUMENTS + "test_val_check_interval",
}
"""Argument -> the test that would fail if it were ignored."""


@contextlib.contextmanager
def ignoring(argument: str) -> Iterator[None]:
    """Drop an argument wherever it is given."""
    make, check = pl.Trainer.__init__, brain_options.check_trainer_mapping

    def without(given: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if name != argument}

    def made(self: Any, *_: Any, **arguments: Any) -> None:
        caller = str(sys._getframe(1).f_globals.get("__name__"))
        ours = caller.startswith("brain_lightning")  # which has defaults of its own
        make(self, **(arguments if ours else without(arguments)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl.Trainer, "__init__", made)
        patch.setattr(brain_options, "check_trainer_mapping", lambda each: check(without(each)))
        yield


def passes(argument: str) -> bool:
    """Whether the argument's test does not notice that it is ignored."""
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", ""]
    with ignoring(argument), contextlib.redirect_stdout(io.StringIO()):
        status = pytest.main([*options, str(HERE / TESTS[argument])])
    assert status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), (argument, status)
    return status is pytest.ExitCode.OK


def main(arguments: list[str]) -> None:
    for argument in arguments or TESTS:
        if passes(argument):
            print(argument, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
