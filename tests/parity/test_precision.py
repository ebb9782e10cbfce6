"""What runs under autocast, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .scenario import Run, parity
from .small_recipes import Points, Regression, adam, modules, sgd

SHUFFLED = {"batch_size": 4, "shuffle": True}


class Observed(Regression):
    """Notes the type that its layers compute in."""

    def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
        predictions = super().compute_forward(batch, stage)
        self.run.note("computed in", dtype=str(predictions.dtype), stage=stage)
        return predictions


def train(run: Run, options: dict[str, Any], opt_class: Any = sgd) -> None:
    brain = run.brain(Observed, modules(), opt_class, run_opts=options)
    brain.fit(run.library.EpochCounter(2), Points(10), Points(6, 1), train_loader_kwargs=SHUFFLED)
    run.note("evaluated", loss=brain.evaluate(Points(6, 2), test_loader_kwargs={"batch_size": 3}))


@parity(mixed=True)
def test_bf16_with_fp32_evaluation(run: Run) -> None:
    train(run, {"precision": "bf16"})


@parity()
def test_bf16_evaluation_only(run: Run) -> None:
    train(run, {"eval_precision": "bf16"}, adam)


@parity()
def test_bf16_everywhere_with_accumulation_and_clipping(run: Run) -> None:
    options = {"precision": "bf16", "eval_precision": "bf16"}
    train(run, {**options, "grad_accumulation_factor": 2, "max_grad_norm": 0.1}, adam)


@parity()
def test_deprecated_flag(run: Run) -> None:
    train(run, {"bfloat16_mix_prec": True})


@parity()
def test_fp32_inside_bf16(run: Run) -> None:
    """A recipe's own autocast inside Brain's, and Brain's contexts used by the recipe."""

    class Own(Observed):
        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> torch.Tensor:
            with torch.autocast("cpu", enabled=False):
                loss = super().compute_objectives(predictions, batch, stage)
            with self.evaluation_ctx, torch.no_grad():
                again = self.modules.model(batch[0])
            run.note("again", dtype=str(again.dtype))
            return loss

    brain = run.brain(Own, modules(0.0), sgd, run_opts={"precision": "bf16"})
    brain.fit(range(2), Points(10), Points(6, 1), train_loader_kwargs=SHUFFLED)


@parity()
def test_precision_from_hparams(run: Run) -> None:
    """Options of hparams hold where run_opts says nothing."""
    hparams = {"precision": "bf16", "eval_precision": "bf16", "max_grad_norm": 0.1}
    options = {"eval_precision": "fp32"}
    brain = run.brain(Observed, modules(), sgd, hparams, options)
    brain.fit(range(2), Points(10), Points(6, 1), train_loader_kwargs=SHUFFLED)
    run.note("options", train=brain.precision, evaluate=brain.eval_precision)


@pytest.mark.parametrize("name", ["auto_mix_prec", "precision", "eval_precision"])
def test_fp16_on_a_cpu(name: str, tmp_path: Any) -> None:
    @parity()
    def refused(run: Run) -> None:
        value = True if name == "auto_mix_prec" else "fp16"
        with run.expecting(ValueError):
            run.brain(Observed, modules(), sgd, run_opts={name: value})

    refused(candidate="ours", tmp_path=tmp_path)
