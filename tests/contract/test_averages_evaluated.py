"""``evaluate()`` tests the average that validation measured, not the weights it was made from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import callbacks

from .small_brain import BATCH, Points, SmallBrain, fit, small_brain, weights


def averaging(folder: Path, decay: float = 0.9, start: int | None = None) -> SmallBrain:
    average = callbacks.EMAWeightAveraging(decay=decay, update_starting_at_step=start)
    return small_brain(folder, saves=True, callbacks=[average])


def loss_of_evaluation(brain: SmallBrain) -> float:
    return float(brain.evaluate(Points(8), test_loader_kwargs={"batch_size": BATCH}))


@pytest.mark.parametrize("in_a_new_process", [False, True])
def test_the_average_is_evaluated(tmp_path: Path, in_a_new_process: bool) -> None:
    brain = fit(averaging(tmp_path))
    measured = float(brain.trainer.callback_metrics["valid_loss"])
    average = weights(brain)
    if in_a_new_process:
        brain = averaging(tmp_path)
        brain.init_optimizers()
    assert loss_of_evaluation(brain) == pytest.approx(measured)
    assert all(map(torch.equal, weights(brain), average))


def test_without_the_callback_the_weights_of_training_are(tmp_path: Path) -> None:
    brain = fit(averaging(tmp_path))
    average = weights(brain)
    plain = small_brain(tmp_path, saves=True)
    loss_of_evaluation(plain)
    assert not any(map(torch.equal, weights(plain), average))


def test_an_average_of_nothing_is_not_evaluated(tmp_path: Path) -> None:
    brain = fit(averaging(tmp_path / "1", start=1000))
    plain = fit(small_brain(tmp_path / "2", saves=True))
    assert loss_of_evaluation(brain) == loss_of_evaluation(plain)


def test_training_goes_on_behind_an_evaluation(tmp_path: Path) -> None:
    """From the weights of training, which the checkpoint has."""
    whole = fit(averaging(tmp_path / "1"))
    brain = averaging(tmp_path / "2")
    brain.hparams.counter.limit = 2
    fit(brain)
    loss_of_evaluation(brain)
    resumed = averaging(tmp_path / "2")
    fit(resumed)
    assert all(map(torch.equal, weights(resumed), weights(whole)))
