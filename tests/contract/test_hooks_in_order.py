"""What callbacks see, and when: beside a plain LightningModule, and with runs inside of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from brain_lightning import Stage

from .small_brain import Pair, Points, SmallBrain, fit, loader, network, small_brain, weights
from .test_own_trainer import trainer
from .test_own_training_steps import Adversarial, NotCounting, Recording

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]

MOVED = "on_before_zero_grad"
"""Comes behind the step in a Brain, as SpeechBrain drops its gradients."""

View = tuple[Any, ...]


class Watching(pl.Callback):
    """Notes every hook with what there is to see in it."""

    def __init__(self) -> None:
        self.seen: list[View] = []

    def views(self, *without: str) -> list[View]:
        return [view for view in self.seen if view[0] not in without]


def _noting(name: str) -> Any:
    def hook(self: Watching, trainer: pl.Trainer, module: Any, *arguments: Any) -> None:
        index = next((each for each in arguments if isinstance(each, int)), None)
        given = [each for each in arguments if isinstance(each, dict)]
        loss = [round(float(each["loss"]), 6) for each in given if "loss" in each]
        self.seen.append((name, trainer.current_epoch, trainer.global_step, index, loss))

    return hook


for _name in [each for each in vars(pl.Callback) if each.startswith("on_")]:
    if "checkpoint" not in _name and "exception" not in _name:
        setattr(Watching, _name, _noting(_name))


class Plain(pl.LightningModule):
    """What SmallBrain does, as a LightningModule."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = torch.nn.ModuleDict(network(0.0))

    def loss_of(self, batch: Pair) -> torch.Tensor:
        predictions = self.parts["head"](self.parts["backbone"](batch[0]))
        return torch.nn.functional.mse_loss(predictions, batch[1])

    def training_step(self, batch: Pair, batch_idx: int) -> Any:
        return self.loss_of(batch)

    def validation_step(self, batch: Pair, batch_idx: int) -> Any:
        return {"loss": self.loss_of(batch)}

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 0.01)


class PlainAdversarial(Plain):
    """What Adversarial does: manual optimization with two optimizers."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Pair, batch_idx: int) -> Any:
        generator, discriminator = self.optimizers()  # type: ignore[misc]
        for optimizer in (discriminator, generator):
            optimizer.zero_grad()
            loss = self.loss_of(batch)
            self.manual_backward(loss)
            optimizer.step()
        return {"loss": loss.detach()}

    def configure_optimizers(self) -> Any:
        rate = 0.1
        return [torch.optim.SGD(part.parameters(), rate) for part in self.parts.values()]


def plain_views(folder: Path, module: Plain, size: int, **arguments: Any) -> Watching:
    watching = Watching()
    own = trainer(folder, callbacks=[watching], num_sanity_val_steps=0, **arguments)
    own.fit(module, loader(size), loader(8))
    return watching


def brain_views(folder: Path, recipe: type[SmallBrain], size: int, **options: Any) -> Watching:
    watching = Watching()
    brain = small_brain(
        folder, recipe, epochs=2, options=options, dropout=0.0, callbacks=[watching]
    )
    brain.fit(brain.hparams.counter, loader(size), loader(8))
    return watching


@pytest.mark.parametrize("optimization", ["manual", "automatic"])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_accumulation(tmp_path: Path, factor: int, optimization: str) -> None:
    """Hooks, epochs, steps, indices and losses; an epoch of six batches has whole steps."""
    theirs = plain_views(tmp_path, Plain(), 24, accumulate_grad_batches=factor)
    options = {"grad_accumulation_factor": factor, "optimization": optimization}
    ours = brain_views(tmp_path, SmallBrain, 24, **options)
    hidden = (MOVED, "on_train_batch_end") if factor > 1 else (MOVED,)
    assert ours.views(*hidden) == theirs.views(*hidden)
    assert [v for v in ours.views() if v[0] == "on_train_batch_end"]


def test_two_optimizers(tmp_path: Path) -> None:
    """As manual optimization, but that a batch is one step: Lightning counts each optimizer."""
    theirs = plain_views(tmp_path, PlainAdversarial(), 20)
    ours = brain_views(tmp_path, Adversarial, 20)

    def without_step(watching: Watching) -> list[View]:
        return [(name, epoch, *rest) for name, epoch, _, *rest in watching.views(MOVED)]

    assert without_step(ours) == without_step(theirs)
    ends = [view for view in ours.seen if view[0] == "on_train_batch_end"]
    assert [view[2] for view in ends] == list(range(1, 11))
    assert [v[2] for v in theirs.seen if v[0] == "on_train_batch_end"] == list(range(2, 21, 2))


def test_accumulation_that_a_callback_asks_for(tmp_path: Path) -> None:
    """The Brain steps as a plain module's optimizer does; the losses that follow show it."""

    class Accumulating(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, _: Any) -> None:
            trainer.accumulate_grad_batches = 3 - trainer.current_epoch

    theirs, ours = Watching(), Watching()
    plain = trainer(tmp_path, callbacks=[theirs, Accumulating()], num_sanity_val_steps=0)
    plain.fit(Plain(), loader(24), loader(8))
    brain = small_brain(tmp_path, epochs=2, dropout=0.0, callbacks=[ours, Accumulating()])
    brain.fit(brain.hparams.counter, loader(24), loader(8))
    hidden = (MOVED, "on_train_batch_end")  # where Lightning's loss is a divided one
    assert ours.views(*hidden) == theirs.views(*hidden)


STOPS = [name for name in vars(Watching) if name.startswith(("on_fit_start", "on_tr", "on_val"))]
STOPS.remove("on_train_end")


@pytest.mark.parametrize("arguments", [{}, {"val_check_interval": 2}, {"min_epochs": 2}], ids=str)
@pytest.mark.parametrize("hook", STOPS)
def test_stopped_in_any_hook(tmp_path: Path, hook: str, arguments: dict[str, Any]) -> None:
    """``trainer.should_stop`` ends the run where it ends that of a plain module."""

    def stopping() -> Watching:
        watching = Watching()
        note = getattr(watching, hook)

        def stop(trainer: pl.Trainer, *given: Any) -> None:
            note(trainer, *given)
            trainer.should_stop = True

        setattr(watching, hook, stop)
        return watching

    theirs, ours = stopping(), stopping()
    plain = trainer(tmp_path, callbacks=[theirs], num_sanity_val_steps=0, max_epochs=3, **arguments)
    plain.fit(Plain(), loader(), loader(8))
    brain = small_brain(tmp_path, dropout=0.0, callbacks=[ours], **arguments)
    brain.fit(range(3), loader(), loader(8))
    assert ours.views(MOVED) == theirs.views(MOVED)


class Inner(NotCounting):
    """What is trained inside; steps its optimizer itself."""


def inner_fit(folder: Path, recipe: type[SmallBrain]) -> None:
    state = torch.random.get_rng_state()
    fit(small_brain(folder, recipe, epochs=1))
    torch.random.set_rng_state(state)


class FitsAtStageEnd(NotCounting):
    folder: Path
    inside: type[SmallBrain] = Inner

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        super().on_stage_end(stage, stage_loss, epoch)
        inner_fit(self.folder, self.inside)


class FitsInBatch(FitsAtStageEnd):
    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        SmallBrain.on_stage_end(self, stage, stage_loss, epoch)

    def fit_batch(self, batch: Pair) -> torch.Tensor:
        if self.step == 2:
            inner_fit(self.folder, self.inside)
        return super().fit_batch(batch)


@pytest.mark.parametrize("inside", [SmallBrain, Inner])
@pytest.mark.parametrize("recipe", [FitsAtStageEnd, FitsInBatch])
def test_fit_inside_of_fit(
    tmp_path: Path, recipe: type[FitsAtStageEnd], inside: type[SmallBrain]
) -> None:
    """Callbacks of the outer run see what they see without the inner one."""
    usual, around = Watching(), Watching()
    alone = fit(small_brain(tmp_path, NotCounting, epochs=2, callbacks=[usual]))
    nesting = type("Nesting", (recipe,), {"folder": tmp_path, "inside": inside})
    nested = fit(small_brain(tmp_path, nesting, epochs=2, callbacks=[around]))
    assert around.seen == usual.seen
    assert all(map(torch.equal, weights(alone), weights(nested)))


def test_the_inner_runs_own_callbacks_hear_it(tmp_path: Path) -> None:
    inner = Recording()

    class Fits(NotCounting):
        def fit_batch(self, batch: Pair) -> torch.Tensor:
            if self.step == 2 and not inner.batches:
                fit(small_brain(tmp_path, NotCounting, epochs=1, callbacks=[inner]))
            return super().fit_batch(batch)

    outer = Recording()
    fit(small_brain(tmp_path, Fits, epochs=1, callbacks=[outer]))
    assert inner.batches == outer.batches
    assert len(outer.losses) == len(outer.batches)


class RefitsItself(NotCounting):
    """Trains itself further inside of its own run, with the optimizer that it has."""

    inside = False

    def init_optimizers(self) -> None:
        if not self.inside:
            super().init_optimizers()

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        super().on_stage_end(stage, stage_loss, epoch)
        if stage is Stage.VALID and not self.inside:
            self.inside = True
            self.fit(range(1), Points(8), train_loader_kwargs={"batch_size": 4})
            self.inside = False


def test_a_brain_that_fits_itself_inside(tmp_path: Path) -> None:
    outer = Recording()
    seen = Watching()
    fit(small_brain(tmp_path, RefitsItself, epochs=2, callbacks=[outer, seen]))
    plain = Recording()
    fit(small_brain(tmp_path, NotCounting, epochs=2, callbacks=[plain]))
    assert outer.batches == plain.batches
    assert [view[1] for view in seen.seen if view[0] == "on_train_epoch_start"] == [0, 1]
