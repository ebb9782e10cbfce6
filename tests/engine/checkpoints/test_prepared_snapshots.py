"""Memory for the first interval checkpoint is there before it is saved, where there will be one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from brain_lightning import Brain, Checkpointer
from brain_lightning.engine.connection import connection_of
from brain_lightning.parts.checkpoints.background_writer import BackgroundSaver


class Recipe(Brain):
    """Notes which memory there is right before its first interval checkpoint, and behind it."""

    memory: tuple[set[Any], set[Any]] | None = None

    def compute_forward(self, batch: Any, stage: Any) -> Any:
        return self.modules.model(batch)

    def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
        return predictions.square().mean()

    def _save_intra_epoch_ckpt(self) -> None:
        before = buffers_of(self)
        super()._save_intra_epoch_ckpt()
        if self.memory is None:
            self.memory = before, buffers_of(self)


def buffers_of(brain: Brain) -> set[Any]:
    background = connection_of(brain).interval_saver._background
    if background is None:
        return set()
    background.wait()
    return {(key, each.data_ptr()) for key, each in background._buffers._buffers.items()}


def fit(folder: Path, batches: int, **options: Any) -> Recipe:
    model = torch.nn.Linear(2, 3)
    brain = Recipe(
        {"model": model},
        lambda parameters: torch.optim.Adam(parameters, 0.1),
        run_opts={"noprogressbar": True, **options},
        checkpointer=Checkpointer(folder, {"model": model}),
    )
    brain.fit(range(1), [torch.ones(1, 2)] * batches)
    return brain


@pytest.mark.parametrize(
    ("interval", "accumulated", "gradients"), [(4, 1, 0), (4, 2, 0), (5, 2, 2)]
)
def test_the_first_save_gets_no_memory(
    tmp_path: Path, interval: int, accumulated: int, gradients: int
) -> None:
    brain = fit(
        tmp_path,
        interval,
        ckpt_interval_steps=interval,
        grad_accumulation_factor=accumulated,
    )
    assert brain.memory is not None
    before, behind = brain.memory
    assert {key for key, _ in behind if "gradients" in key} == {
        ("brain.ckpt.resume", "gradients", f"model.{name}")
        for name in ("weight", "bias")[:gradients]
    }
    tensors = {key for key, _ in behind if key[0] in ("model", "optimizer")}
    assert len(tensors) == 2 + 2 * 3  # Adam has two moments and a count for each parameter
    wanted = {each for each in behind if each[0] in tensors or "gradients" in each[0]}
    assert wanted <= before


@pytest.mark.parametrize(
    ("batches", "options"),
    [
        (9, {"ckpt_interval_steps": 0, "ckpt_interval_minutes": 0}),
        (9, {"ckpt_interval_steps": 2, "async_checkpoint": False}),
        (9, {"ckpt_interval_steps": 20}),  # not half-way when it ends
        (9, {"ckpt_interval_minutes": 15}),
    ],
)
def test_no_memory_is_got_where_no_snapshot_is_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int, options: dict[str, Any]
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(BackgroundSaver, "prepare", lambda *arguments: calls.append(arguments))
    brain = fit(tmp_path, batches, **options)
    assert calls == []
    assert buffers_of(brain) == set()


def test_it_is_got_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(BackgroundSaver, "prepare", lambda *arguments: calls.append(arguments))
    fit(tmp_path, 30, ckpt_interval_steps=4)
    assert len(calls) == 1
