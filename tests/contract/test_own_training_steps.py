"""What callbacks see of a recipe that goes backward and steps its optimizers itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import callbacks

from brain_lightning import Stage

from .small_brain import (
    BATCH,
    BATCHES,
    OwnSteps,
    Pair,
    Points,
    SmallBrain,
    fit,
    small_brain,
    weights,
)
from .test_callbacks import logged

AROUND_THE_STEP = (
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
)
ONE_STEP = list(AROUND_THE_STEP)


class NotCounting(SmallBrain):
    """A recipe that owns its ``fit_batch`` and leaves ``optimizer_step`` alone."""

    def fit_batch(self, batch: Pair) -> torch.Tensor:
        loss = self.loss_of(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def loss_of(self, batch: Pair) -> torch.Tensor:
        predictions = self.compute_forward(batch, Stage.TRAIN)
        return self.compute_objectives(predictions, batch, Stage.TRAIN)


class Adversarial(NotCounting):
    """Two optimizers that step in turn, in each batch."""

    def init_optimizers(self) -> None:
        self.generator = torch.optim.SGD(self.modules["backbone"].parameters(), 0.1)
        self.discriminator = torch.optim.SGD(self.modules["head"].parameters(), 0.1)
        self.optimizers_dict = {"g": self.generator, "d": self.discriminator}

    def fit_batch(self, batch: Pair) -> torch.Tensor:
        for optimizer in (self.discriminator, self.generator):
            optimizer.zero_grad()
            loss = self.loss_of(batch)
            torch.autograd.backward(loss)
            optimizer.step()
        return loss.detach()


class Scaled(NotCounting):
    """Accumulates over two batches, with the scaler, as recipes of before 1.0 do."""

    def fit_batch(self, batch: Pair) -> torch.Tensor:
        loss = self.loss_of(batch)
        self.scaler.scale(loss / 2).backward()  # type: ignore[no-untyped-call]
        if self.step % 2 == 0:
            self.scaler.unscale_(self.optimizer)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
        return loss.detach()


class Around(SmallBrain):
    """Adds to the default ``fit_batch`` and evaluates in its middle."""

    def fit_batch(self, batch: Pair) -> torch.Tensor:
        loss = super().fit_batch(batch)
        if self.step == 2:
            self.evaluate(Points(4), test_loader_kwargs={"batch_size": BATCH})
            self.step = 2  # evaluate() leaves zero behind, in SpeechBrain as well
            self.modules.train()
        return loss


class Recording(pl.Callback):
    """Which of the hooks around the step came, and what there was to see."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.losses: list[float] = []
        self.gradients: list[float] = []
        self.optimizers: list[str] = []
        self.steps: list[int] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.batches.append([])

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: torch.Tensor) -> None:
        self.batches[-1].append("on_before_backward")
        assert loss.requires_grad
        self.losses.append(float(loss.detach()))

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.batches[-1].append("on_after_backward")
        self.gradients.append(self.norm(pl_module))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.batches[-1].append("on_before_optimizer_step")
        self.optimizers.append(type(optimizer).__name__)
        assert self.norm(pl_module) > 0

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.batches[-1].append("on_before_zero_grad")
        assert self.norm(pl_module) > 0

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.steps.append(trainer.global_step)

    @staticmethod
    def norm(module: Any) -> float:
        return sum(float(each.grad.norm()) for each in module.parameters() if each.grad is not None)


def recorded(folder: Path, recipe: type[SmallBrain], **arguments: Any) -> Recording:
    recording = Recording()
    fit(small_brain(folder, recipe, epochs=1, callbacks=[recording], **arguments))
    return recording


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (SmallBrain, [ONE_STEP] * BATCHES),
        (NotCounting, [ONE_STEP] * BATCHES),
        (OwnSteps, [ONE_STEP] * BATCHES),
        (Around, [ONE_STEP] * BATCHES),
        (Adversarial, [ONE_STEP * 2] * BATCHES),
        (Scaled, [ONE_STEP[:2], ONE_STEP] * 2 + [ONE_STEP[:2]]),
    ],
)
def test_hooks_around_the_step(
    tmp_path: Path, recipe: type[SmallBrain], expected: list[list[str]]
) -> None:
    recording = recorded(tmp_path, recipe)
    assert recording.batches == expected
    assert all(norm > 0 for norm in recording.gradients)


def test_listening_changes_no_number(tmp_path: Path) -> None:
    for recipe in (NotCounting, Adversarial, Scaled):
        plain = fit(small_brain(tmp_path, recipe))
        heard = fit(small_brain(tmp_path, recipe, callbacks=[Recording()]))
        assert all(map(torch.equal, weights(plain), weights(heard)))


def test_the_loss_is_the_one_that_is_gone_backward_from(tmp_path: Path) -> None:
    outputs: list[float] = []
    noting = callbacks.LambdaCallback(
        on_train_batch_end=lambda t, m, out, *_: outputs.append(float(out["loss"]))
    )
    recording = Recording()
    fit(small_brain(tmp_path, Scaled, epochs=1, callbacks=[recording, noting]))
    assert recording.losses == pytest.approx([loss / 2 for loss in outputs])


class PlainModule(pl.LightningModule):
    """The same training as a LightningModule that Lightning optimizes."""

    def __init__(self, modules: Any) -> None:
        super().__init__()
        self.layers = modules

    def training_step(self, batch: Pair, batch_idx: int) -> torch.Tensor:
        predictions = self.layers.head(self.layers.backbone(batch[0]))
        return torch.nn.functional.mse_loss(predictions, batch[1])

    def validation_step(self, batch: Pair, batch_idx: int) -> None:
        return None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 0.01)


def all_hooks(seen: list[str]) -> pl.Callback:
    names = [name for name in vars(pl.Callback) if name.startswith("on_") or name == "setup"]

    def noting(name: str) -> Callable[..., None]:
        return lambda *_, **__: seen.append(name)

    own: type[pl.Callback] = type("All", (pl.Callback,), {name: noting(name) for name in names})
    return own()


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("recipe", [SmallBrain, NotCounting])
def test_order_beside_a_plain_module(tmp_path: Path, recipe: type[SmallBrain]) -> None:
    """But for zero_grad, which comes behind the step in a Brain, as it does in SpeechBrain."""
    theirs: list[str] = []
    trainer = pl.Trainer(
        max_epochs=2,
        callbacks=[all_hooks(theirs)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        accelerator="cpu",
    )
    brain = small_brain(tmp_path, recipe)
    data = torch.utils.data.DataLoader(Points(), batch_size=BATCH)
    trainer.fit(PlainModule(brain.modules), data, data)

    ours: list[str] = []
    brain = small_brain(tmp_path, recipe, epochs=2, callbacks=[all_hooks(ours)])
    brain.fit(brain.hparams.counter, data, data)

    moved = "on_before_zero_grad"
    assert ours.count(moved) == theirs.count(moved) == 2 * BATCHES
    assert [name for name in ours if name != moved] == [name for name in theirs if name != moved]


@pytest.mark.parametrize("recipe", [NotCounting, Adversarial, OwnSteps])
def test_global_step_counts_batches_that_stepped(tmp_path: Path, recipe: type[SmallBrain]) -> None:
    recording = Recording()
    keeper = callbacks.ModelCheckpoint(
        tmp_path / "kept", "{step}", every_n_train_steps=4, save_top_k=-1
    )
    brain = small_brain(
        tmp_path, recipe, logger="csv", log_every_n_steps=1, callbacks=[recording, keeper]
    )
    fit(brain)
    assert recording.steps == list(range(1, 3 * BATCHES + 1))
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        "step=4.ckpt",
        "step=8.ckpt",
        "step=12.ckpt",
    }
    rows = [row["step"] for row in logged(tmp_path) if "valid_loss" in row]
    assert rows == [BATCHES * epoch - 1 for epoch in (1, 2, 3)]
    brain.evaluate(Points(4), test_loader_kwargs={"batch_size": BATCH})
    assert [row["step"] for row in logged(tmp_path) if "test_loss" in row] == [3 * BATCHES - 1]


def test_batches_that_only_accumulate_are_no_steps(tmp_path: Path) -> None:
    recording = Recording()
    brain = fit(small_brain(tmp_path, Scaled, epochs=2, callbacks=[recording]))
    assert recording.steps == [0, 1, 1, 2, 2, 2, 3, 3, 4, 4]
    assert brain.optimizer_step == 0  # the recipe's own number, as in SpeechBrain


def test_max_steps_of_a_recipe_that_does_not_count(tmp_path: Path) -> None:
    recording = Recording()
    fit(small_brain(tmp_path, NotCounting, callbacks=[recording], max_steps=7))
    assert recording.steps[-1] == 7


def test_the_count_goes_on_behind_a_checkpoint(tmp_path: Path) -> None:
    """The Checkpointer's, and Lightning's own."""
    recording = Recording()
    keeper = callbacks.ModelCheckpoint(tmp_path / "kept")
    fit(small_brain(tmp_path, NotCounting, saves=True, epochs=2, callbacks=[keeper]))
    fit(small_brain(tmp_path, NotCounting, saves=True, epochs=3, callbacks=[recording]))
    assert recording.steps == list(range(2 * BATCHES + 1, 3 * BATCHES + 1))

    resumed = Recording()
    brain = small_brain(tmp_path / "other", NotCounting, callbacks=[resumed])
    with pytest.warns(UserWarning, match="callbacks used to create the checkpoint"):
        fit(brain, ckpt_path=keeper.best_model_path)
    assert resumed.steps == recording.steps
