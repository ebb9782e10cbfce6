"""Automatic optimization gives the numbers of manual optimization, which are SpeechBrain's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from brain_lightning import Brain, BrainModule, EpochCounter, Stage

OPTIONS: list[dict[str, Any]] = [
    {},
    {"grad_accumulation_factor": 3},
    {"precision": "bf16"},
    {"max_grad_norm": 0.01},
    {"skip_nonfinite_grads": True},
    {"optimizer_step_limit": 9},
    {"debug": True},
    {"grad_accumulation_factor": 2, "optimizer_step_limit": 5, "precision": "bf16"},
]


class Recipe(Brain):
    trace: list[Any]

    def compute_forward(self, batch: Any, stage: Stage) -> Any:
        return self.modules.model(batch[0])

    def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
        loss = torch.nn.functional.mse_loss(predictions, batch[1])
        return loss / 0 if batch[1].max() > 2.4 and self.skip_nonfinite_grads else loss

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        self.trace.append(("start", should_step, self.step, self.optimizer_step))

    def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Any, should_step: bool) -> None:
        self.trace.append(("end", loss.item(), should_step, self.step, self.optimizer_step))

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        self.trace.append((stage, stage_loss, epoch, self.trainer.global_step))


def run(optimization: str, options: dict[str, Any]) -> tuple[list[Any], list[torch.Tensor]]:
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 2))
    data = [(torch.randn(4), torch.randn(2)) for _ in range(22)]
    brain = Recipe(
        {"model": model},
        lambda parameters: torch.optim.Adam(parameters, 0.01),
        run_opts={
            "noprogressbar": True,
            "nonfinite_patience": 100,
            "optimization": optimization,
            **options,
        },
    )
    brain.trace = []
    arguments = {"batch_size": 3, "shuffle": True}
    brain.fit(EpochCounter(3), data, data[:5], train_loader_kwargs=arguments)
    return brain.trace, [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_same_numbers(options: dict[str, Any]) -> None:
    manual_trace, manual_weights = run("manual", options)
    automatic_trace, automatic_weights = run("automatic", options)
    assert automatic_trace == manual_trace
    assert any(entry[0] == "end" and entry[2] for entry in manual_trace)
    for automatic, manual in zip(automatic_weights, manual_weights, strict=True):
        assert torch.equal(automatic, manual)


def test_it_really_is_automatic() -> None:
    brain = Recipe(
        {"model": torch.nn.Linear(2, 2)},
        lambda parameters: torch.optim.SGD(parameters, 0.1),
        run_opts={"optimization": "automatic"},
    )
    assert BrainModule(brain).automatic_optimization
    brain = Recipe({"model": torch.nn.Linear(2, 2)})
    assert not BrainModule(brain).automatic_optimization
