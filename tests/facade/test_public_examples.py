"""The examples of SpeechBrain's public page for the core run as printed."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import SGD

import brain_lightning
from brain_lightning import Brain, parse_arguments


def test_simple_brain() -> None:
    class SimpleBrain(Brain):
        def compute_forward(self, batch: Any, stage: Any) -> Any:
            return self.modules.model(batch[0])

        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
            return torch.nn.functional.l1_loss(predictions, batch[0])

    model = torch.nn.Linear(in_features=10, out_features=10)
    before = model.weight.detach().clone()
    brain = SimpleBrain({"model": model}, opt_class=lambda x: SGD(x, 0.1))
    brain.fit(range(1), ([torch.rand(10, 10), torch.rand(10, 10)],))
    assert not torch.equal(model.weight, before)
    assert brain.optimizer_step == 1


def test_brain_with_hparams() -> None:
    class SimpleBrain(Brain):
        def compute_forward(self, batch: Any, stage: Any) -> Any:
            return self.modules.model(batch[0] * self.hparams.scalar)

        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
            return torch.nn.functional.l1_loss(predictions, batch[0])

    brain = SimpleBrain(
        modules={"model": torch.nn.Linear(in_features=10, out_features=10)},
        opt_class=lambda x: SGD(x, lr=0.1),
        hparams={"scalar": 5},
        run_opts={"device": "cpu"},
    )
    brain.fit(range(1), ([torch.rand(10, 10), torch.rand(10, 10)],))
    assert brain.step == 0


def test_parse_arguments() -> None:
    argv = ["hyperparams.yaml", "--device", "cuda:1", "--seed", "10"]
    filename, run_opts, overrides = parse_arguments(argv)
    assert filename == "hyperparams.yaml"
    assert run_opts["device"] == "cuda:1"
    assert overrides == "seed: 10"


def test_public_names_are_there() -> None:
    for name in brain_lightning.__all__:
        assert getattr(brain_lightning, name) is not None


def test_what_a_recipe_defines_is_not_shadowed() -> None:
    """Names of ours that SpeechBrain's Brain does not have belong to the recipe if it uses them."""

    class Mine(Brain):
        precision_of_mine = 3
        optimization = "my own"
        move_batch = "my own"

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.trainer = "my own"

        def log(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            return "my own"

        def on_evaluate_end(self) -> None:
            raise AssertionError("SpeechBrain never calls this")

        def compute_forward(self, batch: Any, stage: Any) -> Any:
            return self.modules.model(batch[0])

        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
            return predictions.mean()

    brain = Mine({"model": torch.nn.Linear(2, 2)}, lambda x: SGD(x, 0.1))
    brain.fit(range(2), ([torch.rand(2, 2)],), ([torch.rand(2, 2)],))
    brain.evaluate(([torch.rand(2, 2)],))
    assert brain.trainer == "my own"
    assert brain.log("x", 1) == "my own"
    assert (brain.optimization, brain.move_batch) == ("my own", "my own")
