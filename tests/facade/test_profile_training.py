"""profile_training, and what is said of a recipe with a training loop of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from brain_lightning import Brain, Stage


class Recipe(Brain):
    def compute_forward(self, batch: Any, stage: Stage) -> Any:
        return self.modules.model(batch[0])

    def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
        return predictions.mean()

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        raise AssertionError("SpeechBrain's has ended before")


DATA = [(torch.ones(2),) for _ in range(20)]


def test_traces_are_written_and_training_ends(tmp_path: Path) -> None:
    brain = Recipe(
        {"model": torch.nn.Linear(2, 2)},
        lambda parameters: torch.optim.SGD(parameters, 0.1),
        hparams={"output_folder": str(tmp_path)},
        run_opts={
            "profile_training": True,
            "profile_warmup": 2,
            "profile_steps": 3,
            "noprogressbar": True,
        },
    )
    brain.fit(range(5), DATA, DATA)
    assert list((tmp_path / "profiler_logs").glob("*.pt.trace.json"))
    assert brain.optimizer_step < len(DATA)


def test_a_loop_of_the_recipes_is_refused() -> None:
    class OwnLoop(Recipe):
        def _fit_train(self, train_set: Any, epoch: int, enable: bool) -> None:
            raise AssertionError("nobody calls this")

    with pytest.raises(ValueError, match=r"OwnLoop defines _fit_train\(\)"):
        OwnLoop({"model": torch.nn.Linear(2, 2)}).fit(range(1), DATA)
    brain = Recipe({"model": torch.nn.Linear(2, 2)})
    brain._fit_train = lambda *args, **kwargs: None
    with pytest.raises(ValueError, match=r"Recipe defines _fit_train\(\)"):
        brain.fit(range(1), DATA)
