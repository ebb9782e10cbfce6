"""The comparison finds what it is there to find: each planted fault is a difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from .comparison import first_difference
from .library import speechbrain_library
from .recorder import ORDINARY_HOOKS
from .scenario import Run, perform
from .small_recipes import Points, Regression, modules, sgd


def scenario(run: Run) -> None:
    options = {"grad_accumulation_factor": 2, "max_grad_norm": 0.1, "precision": "bf16"}
    brain = run.brain(Regression, modules(), sgd, run_opts=options)
    loader = {"batch_size": 4, "shuffle": True}
    brain.fit(run.library.EpochCounter(2), Points(10), Points(4, 1), None, loader)


def remembering_gradients(brain_class: Any) -> Any:
    class Faulty(brain_class):
        def zero_grad(self, set_to_none: bool = False) -> None:
            pass

    return Faulty


def drawing_a_number(brain_class: Any) -> Any:
    class Faulty(brain_class):
        def _fit_valid(self, *arguments: Any, **kwargs: Any) -> None:
            super()._fit_valid(*arguments, **kwargs)
            torch.rand(())

    return Faulty


def clipping_after_the_step(brain_class: Any) -> Any:
    class Faulty(brain_class):
        def optimizers_step(self) -> None:
            norm, self.max_grad_norm = self.max_grad_norm, 5.0
            super().optimizers_step()
            self.max_grad_norm = norm

    return Faulty


def evaluating_in_bf16(brain_class: Any) -> Any:
    class Faulty(brain_class):
        def __init__(self, *arguments: Any, **kwargs: Any) -> None:
            super().__init__(*arguments, **kwargs)
            self.evaluation_ctx = self.training_ctx

    return Faulty


def validating_in_train_mode(brain_class: Any) -> Any:
    class Faulty(brain_class):
        def evaluate_batch(self, batch: Any, stage: Any) -> Any:
            self.modules.train()
            return super().evaluate_batch(batch, stage)

    return Faulty


def stepping_the_remainder(brain_class: Any) -> Any:
    class Faulty(brain_class):
        def _fit_train(self, *arguments: Any, **kwargs: Any) -> None:
            super()._fit_train(*arguments, **kwargs)
            self.optimizers_step()

    return Faulty


def writing_a_file(brain_class: Any) -> Any:
    class Faulty(brain_class):
        def on_fit_start(self) -> None:
            super().on_fit_start()
            (self.run.folder / "lightning_logs").touch()

    return Faulty


FAULTS: list[Callable[[Any], Any]] = [
    remembering_gradients,
    drawing_a_number,
    clipping_after_the_step,
    evaluating_in_bf16,
    validating_in_train_mode,
    stepping_the_remainder,
    writing_a_file,
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("observed", [True, False])
def test_a_planted_fault_is_found(
    fault: Callable[[Any], Any], observed: bool, tmp_path: Path
) -> None:
    sound = speechbrain_library()
    faulty = replace(sound, Brain=fault(sound.Brain))
    expected = perform(scenario, sound, tmp_path / "sound")
    if observed:
        found = perform(scenario, faulty, tmp_path / "faulty")
        assert first_difference(expected, found) is not None
    else:
        found = perform(scenario, faulty, tmp_path / "faulty", ORDINARY_HOOKS)
        assert first_difference(expected, found, hooks=ORDINARY_HOOKS) is not None


def test_equal_runs_are_equal(tmp_path: Path) -> None:
    expected = perform(scenario, speechbrain_library(), tmp_path / "one")
    found = perform(scenario, speechbrain_library(), tmp_path / "two")
    assert first_difference(expected, found) is None


def test_unobserved_runs_are_comparable(tmp_path: Path) -> None:
    expected = perform(scenario, speechbrain_library(), tmp_path / "one")
    found = perform(scenario, speechbrain_library(), tmp_path / "two", ORDINARY_HOOKS)
    assert len(found) > 10
    assert first_difference(expected, found, hooks=ORDINARY_HOOKS) is None


def test_the_difference_is_readable(tmp_path: Path) -> None:
    sound = speechbrain_library()
    faulty = replace(sound, Brain=evaluating_in_bf16(sound.Brain))
    expected = perform(scenario, sound, tmp_path / "sound")
    found = perform(scenario, faulty, tmp_path / "faulty")
    difference = first_difference(expected, found)
    assert difference is not None
    assert "at call compute_forward" in difference
    assert "autocast: SpeechBrain off" in difference
    assert "candidate   torch.bfloat16" in difference
