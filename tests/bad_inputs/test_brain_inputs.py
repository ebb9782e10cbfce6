"""What a Brain refuses, before any work and in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from brain_lightning import Brain, Checkpointer, EpochCounter, Stage

BATCH = [torch.ones(2, 3), torch.ones(2, 3)]


class Recipe(Brain):
    def compute_forward(self, batch: Any, stage: Stage) -> Any:
        return self.modules.model(batch[0])

    def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
        return torch.nn.functional.mse_loss(predictions, batch[1])


def make(recipe: type[Brain] = Recipe, checkpointer: Any = None, **run_opts: Any) -> Brain:
    return recipe(
        {"model": torch.nn.Linear(3, 3)},
        lambda parameters: torch.optim.SGD(parameters, 0.1),
        run_opts={"noprogressbar": True, "device": "cpu", **run_opts},
        checkpointer=checkpointer,
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"precision": "fp8"}, "fp8"),
        ({"eval_precision": "half"}, "half"),
        ({"precision": "fp16"}, "bf16"),
        ({"eval_precision": "fp16"}, "bf16"),
        ({"auto_mix_prec": True}, "bf16"),
        ({"ckpt_interval_minutes": 5, "ckpt_interval_steps": 5}, "ckpt_interval"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"device": "toaster"}, "toaster"),
        ({"grad_accumulation_factor": 0}, "grad_accumulation_factor"),
        ({"optimization": "magic"}, "magic"),
        ({"trainer": {"max_epoch": 3}}, "max_epochs"),
        ({"trainer": {"precision": "bf16-mixed"}}, "precision"),
        ({"trainer": {"accumulate_grad_batches": 2}}, "grad_accumulation_factor"),
        ({"trainer": {"gradient_clip_val": 1.0}}, "max_grad_norm"),
        ({"trainer": {"max_epochs": 3}}, "epoch counter"),
        ({"trainer": {"inference_mode": True}}, "inference_mode"),
        ({"trainer": {"enable_progress_bar": True}}, "noprogressbar"),
        ({"profile_training": True}, "output_folder"),
    ],
)
def test_option_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make(**options)


def test_trainer_must_be_a_mapping() -> None:
    with pytest.raises((TypeError, ValueError), match="trainer"):
        Recipe({"model": torch.nn.Linear(3, 3)}, trainer=["csv"])  # type: ignore[arg-type]


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(TypeError, match="grad_accumulation_factor"):
        make(grad_acumulation_factor=2)


@pytest.mark.parametrize(
    "modules", [torch.nn.Linear(3, 3), [torch.nn.Linear(3, 3)], {"model": "no module"}, {1: 2}, 7]
)
def test_modules_must_map_names_to_modules(modules: Any) -> None:
    with pytest.raises(TypeError, match="modules must map names to torch modules"):
        Recipe(modules)


@pytest.mark.parametrize("returned", [1.5, None, {"loss": torch.tensor(1.0)}])
def test_loss_must_be_a_tensor(returned: Any) -> None:
    class Wrong(Recipe):
        def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
            return returned

    with pytest.raises(TypeError, match=r"Wrong.compute_objectives\(\) must return"):
        make(Wrong).fit(range(1), (BATCH,))


@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_loss_must_have_one_element(call: str) -> None:
    class Wrong(Recipe):
        def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
            return (predictions - batch[1]) ** 2

    brain = make(Wrong)
    with pytest.raises(ValueError, match=r"shape \(1, 2, 3\)"):
        brain.fit(range(1), (BATCH,)) if call == "fit" else brain.evaluate((BATCH,))


def test_methods_that_a_recipe_must_define() -> None:
    with pytest.raises(NotImplementedError, match=r"Brain does not define compute_forward\(\)"):
        make(Brain).fit(range(1), (BATCH,))


@pytest.mark.parametrize("empty", [[], (), torch.utils.data.TensorDataset(torch.ones(0, 3))])
def test_training_set_must_not_be_empty(empty: Any, tmp_path: Path) -> None:
    brain = make(checkpointer=Checkpointer(tmp_path))
    with pytest.raises(ValueError, match="training set gives no batch"):
        brain.fit(EpochCounter(1), empty)
    assert list(tmp_path.iterdir()) == []


def test_training_set_must_give_a_batch() -> None:
    with pytest.raises(ValueError, match="drop_last"):
        make().fit(range(1), [BATCH], train_loader_kwargs={"batch_size": 4, "drop_last": True})


def test_epochs_must_be_iterable() -> None:
    with pytest.raises(TypeError, match="cannot be iterated over"):
        make().fit(3, (BATCH,))  # type: ignore[arg-type]


def test_data_set_must_be_usable() -> None:
    with pytest.raises(TypeError):
        make().fit(range(1), 5)


def test_what_a_run_has_written_stays_whole(tmp_path: Path) -> None:
    """An error in a later fit leaves the checkpoints of an earlier one as they are."""

    class Saves(Recipe):
        broken = False

        def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
            self.checkpointer.save_checkpoint(name=f"epoch{epoch}")

        def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
            return (
                "no loss" if self.broken else super().compute_objectives(predictions, batch, stage)
            )

    brain = make(Saves, Checkpointer(tmp_path))
    brain.fit([1], (BATCH,))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert before
    brain.broken = True
    with pytest.raises(TypeError):
        brain.fit([2], (BATCH,))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_automatic_optimization_names_what_prevents_it() -> None:
    class Owns(Recipe):
        def fit_batch(self, batch: Any) -> torch.Tensor:
            return super().fit_batch(batch)

    with pytest.raises(ValueError, match="Owns overrides fit_batch"):
        make(Owns, optimization="automatic").fit(range(1), (BATCH,))
