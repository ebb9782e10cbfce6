"""fit and evaluate called from inside each other, and stages that the recipe replaces."""

from __future__ import annotations

from typing import Any

import torch

from .scenario import Run, parity
from .small_recipes import INPUTS, OUTPUTS, Points, Regression, adam, modules, sgd

SHUFFLED = {"batch_size": 4, "shuffle": True}


class Rows:
    """Stands in for a data set made of a dict inside make_dataloader."""

    def __init__(self, entries: dict[str, Any]) -> None:
        self.entries = list(entries.values())

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Any:
        return self.entries[index]


class FitInsideFit(Regression):
    """Like MetricGAN: at a training stage's start the discriminator is fitted, two or three times.

    The data set is a dict, on_fit_start is skipped by a flag, and the inner fit's own stages are
    told apart by the same flag.
    """

    inner = False

    def on_fit_start(self) -> None:
        if not self.inner:
            super().on_fit_start()  # type: ignore[misc]

    def make_dataloader(self, dataset: Any, stage: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        if isinstance(dataset, dict):
            dataset = Rows(dataset)
        return super().make_dataloader(dataset, stage, **kwargs)  # type: ignore[misc]

    def on_stage_start(self, stage: Any, epoch: Any = None) -> None:
        self.run.note("stage", inner=self.inner, epoch=epoch, stage=stage)
        if stage == self.run.library.Stage.TRAIN and not self.inner:
            self.inner = True
            for _ in range(epoch):
                self.fit(range(1), self.hparams.rows, train_loader_kwargs=SHUFFLED)
            self.inner = False

    def fit_batch(self, batch: Any) -> torch.Tensor:
        loss: torch.Tensor = super().fit_batch(batch)  # type: ignore[misc]
        return loss / 2 if self.inner else loss


def rows() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    return {
        f"row{index}": (
            torch.randn(INPUTS, generator=generator),
            torch.randn(OUTPUTS, generator=generator),
        )
        for index in range(9)
    }


@parity(mixed=True)
def test_fit_inside_on_stage_start(run: Run) -> None:
    brain = run.brain(FitInsideFit, modules(), adam, {"rows": rows()})
    counter = run.library.EpochCounter(3)
    brain.fit(counter, Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)
    run.note("left", current=counter.current)
    brain.evaluate(Points(4, 1))


@parity()
def test_fit_inside_fit_with_workers(run: Run) -> None:
    """The outer loader must not be running before the inner fit is done."""
    brain = run.brain(FitInsideFit, modules(), adam, {"rows": rows()})
    loader = {**SHUFFLED, "num_workers": 1}
    brain.fit(run.library.EpochCounter(2), Points(10), Points(4, 1), train_loader_kwargs=loader)


@parity()
def test_fit_inside_fit_with_accumulation_and_checkpoints(run: Run) -> None:
    model = modules()
    checkpointer = run.library.Checkpointer(run.folder / "save", {"model": model["model"]})
    options = {"grad_accumulation_factor": 2, "ckpt_interval_steps": 2}
    brain = run.brain(FitInsideFit, model, adam, {"rows": rows()}, options, checkpointer)
    brain.fit(range(1, 3), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity()
def test_fit_inside_a_batch(run: Run) -> None:
    class Restless(Regression):
        inner = False

        def on_fit_batch_end(self, *arguments: Any) -> None:
            if not self.inner and self.step == 2:
                self.inner, step = True, self.step
                self.fit(range(1), Points(3), train_loader_kwargs={"batch_size": 2})
                self.inner, self.step = False, step

    brain = run.brain(Restless, modules(), sgd)
    brain.fit(range(2), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity(mixed=True)
def test_evaluate_inside_on_stage_end(run: Run) -> None:
    """Like the Viterbi recipe: evaluate at the end of validation, then training goes on."""

    class Aligning(Regression):
        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            if stage == run.library.Stage.VALID:
                loss = self.evaluate(Points(6, 2), test_loader_kwargs={"batch_size": 2})
                run.note("evaluated", loss=loss, epoch=epoch)

    brain = run.brain(Aligning, modules(), sgd)
    brain.fit(run.library.EpochCounter(3), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity()
def test_evaluate_inside_training(run: Run) -> None:
    """In eval mode without gradients; training goes on in the mode that evaluate left."""

    class Peeking(Regression):
        def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
            if self.step == 2:
                step = self.step
                self.evaluate(Points(3, 2))
                self.step = step

        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            if stage == run.library.Stage.TRAIN:
                self.evaluate(Points(3, 2))

    brain = run.brain(Peeking, modules(), sgd, run_opts={"grad_accumulation_factor": 2})
    brain.fit(range(2), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity()
def test_fit_inside_evaluate(run: Run) -> None:
    """Adaptation at test time: SpeechBrain's evaluation has gradients off, so fit turns them on."""

    class Adapting(Regression):
        def on_stage_start(self, stage: Any, epoch: Any = None) -> None:
            if stage == run.library.Stage.TEST:
                self.fit(range(1), Points(4, 3), train_loader_kwargs={"batch_size": 2})

    brain = run.brain(Adapting, modules(), sgd)
    brain.evaluate(Points(4, 1))


@parity()
def test_another_brain_inside(run: Run) -> None:
    """Two Brains that share modules; one is fitted while the other one is."""

    class Outer(Regression):
        def on_stage_start(self, stage: Any, epoch: Any = None) -> None:
            if stage == run.library.Stage.TRAIN:
                inner.fit(range(epoch, epoch + 1), Points(5, 4), train_loader_kwargs=SHUFFLED)

    shared = modules()
    inner = run.brain(Regression, shared, adam)
    outer = run.brain(Outer, shared, sgd)
    outer.fit(run.library.EpochCounter(2), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)
    run.note("shared", same=inner.modules.model is outer.modules.model)


class EveryOtherEpoch(Regression):
    def _fit_valid(self, valid_set: Any, epoch: int, enable: bool) -> None:
        self.run.note("_fit_valid", epoch=epoch, enable=enable, given=valid_set)
        if epoch % 2 == 0:
            super()._fit_valid(valid_set, epoch, enable)  # type: ignore[misc]


@parity(mixed=True)
def test_validation_every_other_epoch(run: Run) -> None:
    brain = run.brain(EveryOtherEpoch, modules(), sgd)
    brain.fit(run.library.EpochCounter(4), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity(mixed=True)
def test_validation_called_by_steps(run: Run) -> None:
    """By the recipe, within a batch and at the end of TRAIN, with checkpoints."""

    class BySteps(Regression):
        def on_fit_batch_end(self, *arguments: Any) -> None:
            if self.optimizer_step % 2 == 0:
                step = self.step
                self.validate()
                self.step = step
                self.modules.train()

        def validate(self) -> None:
            self._fit_valid(valid_set=self.own_set, epoch=self.hparams.epochs.current, enable=False)
            self.run.note("validated", step=self.step, training=self.modules.training)

        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            if stage == run.library.Stage.TRAIN:
                self.validate()
            else:
                self.checkpointer.save_and_keep_only({"loss": stage_loss}, min_keys=["loss"])

    model = modules()
    counter = run.library.EpochCounter(2)
    checkpointer = run.library.Checkpointer(
        run.folder / "save", {"model": model["model"], "counter": counter}
    )
    brain = run.brain(BySteps, model, sgd, {"epochs": counter}, checkpointer=checkpointer)
    brain.own_set = brain.make_dataloader(Points(3, 2), run.library.Stage.VALID, None, batch_size=2)
    brain.fit(counter, Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)
    brain.evaluate(Points(4, 1), min_key="loss")


@parity()
def test_validation_called_in_a_validation(run: Run) -> None:
    class Twice(Regression):
        inner = False

        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            if stage == run.library.Stage.VALID and not self.inner:
                self.inner = True
                self._fit_valid(self.own_set, epoch, False)
                self.inner = False

    class TwiceByItself(Twice):
        def _fit_valid(self, valid_set: Any, epoch: int, enable: bool) -> None:
            super()._fit_valid(valid_set, epoch, enable)  # type: ignore[misc]
            if not self.inner:
                super()._fit_valid(self.own_set, epoch, enable)  # type: ignore[misc]

    for recipe in (Twice, TwiceByItself):
        brain = run.brain(recipe, modules(), sgd)
        brain.own_set = brain.make_dataloader(Points(3, 2), run.library.Stage.VALID)
        brain.fit(range(2), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity()
def test_validation_overridden_without_data(run: Run) -> None:
    brain = run.brain(EveryOtherEpoch, modules(), sgd)
    brain.fit(run.library.EpochCounter(2), Points(10), train_loader_kwargs=SHUFFLED)


@parity()
def test_validation_replaced(run: Run) -> None:
    """The recipe's own loop, with own hooks and counting, and no call of super."""

    class Own(Regression):
        def _fit_valid(self, valid_set: Any, epoch: int, enable: bool) -> None:
            stage = run.library.Stage.VALID
            self.on_stage_start(stage, epoch)
            self.modules.eval()
            losses = []
            with torch.no_grad():
                for batch in valid_set:
                    self.step += 1
                    losses.append(float(self.evaluate_batch(batch, stage=stage)))
                    if len(losses) == 2:
                        break
            self.step = 0
            self.on_stage_end(stage, sum(losses), epoch)

    brain = run.brain(Own, modules(), sgd)
    brain.fit(range(2), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity()
def test_evaluate_before_fit_and_in_a_loop(run: Run) -> None:
    brain = run.brain(Regression, modules(), sgd)
    for seed in range(2):
        run.note("evaluated", loss=brain.evaluate(Points(3, seed)))
    brain.fit(range(1), Points(10), train_loader_kwargs=SHUFFLED)
    for seed in range(2):
        run.note("evaluated", loss=brain.evaluate(Points(3, seed)))


@parity()
def test_inference_class(run: Run) -> None:
    """A Brain that only evaluates, with a Stage of its own and no optimizer."""
    import enum

    class OwnStage(enum.Enum):
        VALID = 2
        DECODE = 4

    class Decoding(Regression):
        def evaluate_batch(self, batch: Any, stage: Any) -> torch.Tensor:
            outputs = self.compute_forward(batch, OwnStage.DECODE)
            return outputs.sum()

    brain = run.brain(Decoding, modules())
    run.note("evaluated", loss=brain.evaluate(Points(3), test_loader_kwargs={"batch_size": 2}))
