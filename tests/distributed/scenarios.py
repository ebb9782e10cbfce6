"""What two processes do under either library; see test_two_processes.py."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import mse_loss
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

from tests.parity.scenario import Run
from tests.parity.small_recipes import (
    HIDDEN,
    INPUTS,
    OUTPUTS,
    Points,
    PointStream,
    Recipe,
    Regression,
    adam,
    modules,
    network,
    sgd,
)

SCENARIOS: dict[str, Callable[[Run], None]] = {}
SHUFFLED = {"batch_size": 2, "shuffle": True}


def scenario(function: Callable[[Run], None]) -> Callable[[Run], None]:
    """Register a scenario under its name."""
    SCENARIOS[function.__name__] = function
    return function


def rank() -> int:
    """Which process this is."""
    return torch.distributed.get_rank()


class Noting(Regression):
    """Writes down which data each process sees."""

    def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
        self.run.note("batch", stage=stage, inputs=batch[0])
        return super().compute_forward(batch, stage)


def train(run: Run, brain: Any, size: int = 14, epochs: int = 2, **loader: Any) -> None:
    counter = run.library.EpochCounter(epochs)
    brain.fit(counter, Points(size), Points(5, 1), None, loader or SHUFFLED, {"batch_size": 3})
    run.note("evaluated", loss=brain.evaluate(Points(4, 2), test_loader_kwargs={"batch_size": 2}))


@scenario
def shuffled(run: Run) -> None:
    """Thirteen samples for two processes: one is given twice."""
    train(run, run.brain(Noting, modules(), sgd), size=13)


@scenario
def sorted_data(run: Run) -> None:
    train(run, run.brain(Noting, modules(), sgd, {"sorting": "ascending"}), size=13)


@scenario
def dropping_the_last_batch(run: Run) -> None:
    loader = {"batch_size": 2, "drop_last": True}
    train(run, run.brain(Noting, modules(), sgd, {"sorting": "random"}), size=13, **loader)


@scenario
def sampler(run: Run) -> None:
    generator = torch.Generator().manual_seed(7)
    own = RandomSampler(range(13), generator=generator)
    train(run, run.brain(Noting, modules(), sgd), size=13, batch_size=2, sampler=own)


@scenario
def sampler_and_shuffle(run: Run) -> None:
    own = SequentialSampler(range(13))
    loader = {"batch_size": 2, "sampler": own, "shuffle": True}
    train(run, run.brain(Noting, modules(), sgd), size=13, **loader)


@scenario
def batch_sampler(run: Run) -> None:
    own = BatchSampler(SequentialSampler(range(13)), 2, drop_last=False)
    train(run, run.brain(Noting, modules(), sgd), size=13, batch_sampler=own)


@scenario
def batch_sampler_in_order(run: Run) -> None:
    own = BatchSampler(SequentialSampler(range(13)), 2, drop_last=False)
    brain = run.brain(Noting, modules(), sgd, {"sorting": "descending"})
    train(run, brain, size=13, batch_sampler=own)


@scenario
def stream(run: Run) -> None:
    """Not split: each process draws its own items."""
    brain = run.brain(Noting, modules(), sgd)
    brain.fit(range(2), PointStream(6), Points(4), train_loader_kwargs={"batch_size": 2})


@scenario
def looped_loader(run: Run) -> None:
    brain = run.brain(Noting, modules(), sgd)
    loader = {"batch_size": 2, "looped_nominal_epoch": 3}
    brain.fit(range(3), PointStream(8), Points(4), train_loader_kwargs=loader)


@scenario
def loader_of_the_recipes_own(run: Run) -> None:
    loader = torch.utils.data.DataLoader(Points(8, rank()), 2)
    run.brain(Noting, modules(), sgd).fit(range(2), loader, loader)


@scenario
def accumulation(run: Run) -> None:
    """Three batches a step, with a remainder at the end of each epoch."""
    options = {"grad_accumulation_factor": 3}
    train(run, run.brain(Regression, modules(), adam, run_opts=options), size=16)


@scenario
def clipping(run: Run) -> None:
    train(run, run.brain(Regression, modules(), sgd, run_opts={"max_grad_norm": 0.01}))


class Saving(Regression):
    """Saves at each validation's end, by all processes or by the main one alone."""

    def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
        if stage != self.run.library.Stage.VALID:
            return
        meta = {"loss": stage_loss, "epoch": epoch}
        if not self.hparams.alone:
            self.checkpointer.save_and_keep_only(meta, min_keys=["loss"], num_to_keep=2)


def still_network() -> torch.nn.Module:
    """Without dropout: a resume restores random states in our library only."""
    return torch.nn.Sequential(
        torch.nn.Linear(INPUTS, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, OUTPUTS)
    )


def saving_brain(run: Run, epochs: int, model: torch.nn.Module, **options: Any) -> Any:
    counter = run.library.EpochCounter(epochs)
    recoverables = {"model": model, "counter": counter}
    checkpointer = run.library.Checkpointer(run.folder / "save", recoverables)
    hparams = {"counter": counter, "alone": False}
    return run.brain(Saving, {"model": model}, adam, hparams, options, checkpointer)


def fit(brain: Any) -> None:
    brain.fit(brain.hparams.counter, Points(18), Points(4, 1), train_loader_kwargs=SHUFFLED)


@scenario
def checkpoints(run: Run) -> None:
    brain = saving_brain(run, 3, network())
    fit(brain)
    for keys in ({"min_key": "loss"}, {}, {"max_key": "epoch"}):
        run.note("evaluated", loss=brain.evaluate(Points(5, 2), **keys), **keys)


@scenario
def interval_checkpoints(run: Run) -> None:
    fit(saving_brain(run, 2, network(), ckpt_interval_steps=2))


@scenario
def resume_behind_an_epoch(run: Run) -> None:
    fit(saving_brain(run, 2, still_network()))
    fit(saving_brain(run, 4, still_network()))


@scenario
def resume_in_an_epoch(run: Run) -> None:
    class Stopping(Saving):
        def fit_batch(self, batch: Any) -> torch.Tensor:
            if self.hparams.counter.current == 2 and self.step == 4:
                raise RuntimeError("as if killed")
            loss: torch.Tensor = super().fit_batch(batch)  # type: ignore[misc]
            return loss

    for recipe in (Stopping, Saving):
        model = still_network()
        counter = run.library.EpochCounter(3)
        recoverables = {"model": model, "counter": counter}
        checkpointer = run.library.Checkpointer(run.folder / "save", recoverables)
        hparams = {"counter": counter, "alone": False}
        options = {"ckpt_interval_steps": 2}
        brain = run.brain(recipe, {"model": model}, adam, hparams, options, checkpointer)
        if recipe is Stopping:
            with run.expecting(RuntimeError):
                fit(brain)
            torch.distributed.barrier()
        else:
            fit(brain)


@scenario
def gan(run: Run) -> None:
    from tests.parity.test_optimization import Adversarial, adversaries

    train(run, run.brain(Adversarial, adversaries()))


@scenario
def two_optimizers(run: Run) -> None:
    from tests.parity.test_optimization import TwoOptimizers, two_modules

    options = {"grad_accumulation_factor": 2, "max_grad_norm": 0.1}
    train(run, run.brain(TwoOptimizers, two_modules(), run_opts=options), epochs=3)


@scenario
def unused_parameters(run: Run) -> None:
    class Branching(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = torch.nn.Linear(INPUTS, OUTPUTS)
            self.right = torch.nn.Linear(INPUTS, OUTPUTS)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            left = float(inputs.sum()) > 0
            return self.left(inputs) if left else self.right(inputs)

    options = {"find_unused_parameters": True}
    train(run, run.brain(Regression, {"model": Branching()}, sgd, run_opts=options))


@scenario
def frozen_and_used_through_module(run: Run) -> None:
    """An entry without anything to train is not wrapped; the other one is unwrapped by hand."""

    class Unwrapping(Recipe):
        def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
            model = self.modules.model
            run.note("wrapped", kinds=[type(each).__name__ for each in self.modules.values()])
            features = self.modules.frozen(batch[0])
            if stage != run.library.Stage.TRAIN:
                model = model.module if hasattr(model, "module") else model
            return model(features)

        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> torch.Tensor:
            return mse_loss(predictions, batch[1])

    frozen = torch.nn.Linear(INPUTS, INPUTS).requires_grad_(False)
    torch.manual_seed(5)  # nobody sends what is not wrapped to the other process
    frozen.reset_parameters()
    train(run, run.brain(Unwrapping, {"model": network(), "frozen": frozen}, sgd))


@scenario
def stopper(run: Run) -> None:
    class Watching(Regression):
        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            if stage == run.library.Stage.VALID:
                counter.update_metric(self.hparams.losses[epoch - 1])

    counter = run.library.EpochCounterWithStopper(9, 2, 0, "min")
    losses = [3.0, 2.0, 2.5, 2.6, 2.7]
    brain = run.brain(Watching, modules(), sgd, {"losses": losses})
    brain.fit(counter, Points(8), Points(4, 1), train_loader_kwargs=SHUFFLED)
    run.note("stopped", current=counter.current)


@scenario
def debug(run: Run) -> None:
    options = {"debug": True, "debug_batches": 2, "debug_epochs": 1}
    train(run, run.brain(Regression, modules(), sgd, run_opts=options))


@scenario
def step_limit(run: Run) -> None:
    train(run, run.brain(Regression, modules(), sgd, run_opts={"optimizer_step_limit": 5}))


@scenario
def not_finite_within_the_patience(run: Run) -> None:
    from tests.parity.test_optimization import ADDED, SometimesNotFinite

    train(run, run.brain(SometimesNotFinite, modules(), sgd, ADDED))


@scenario
def fit_again_and_inside(run: Run) -> None:
    """The modules are wrapped again, as SpeechBrain does."""

    class Inner(Regression):
        inner = False

        def on_fit_start(self) -> None:
            if not self.inner:
                super().on_fit_start()  # type: ignore[misc]

        def on_stage_start(self, stage: Any, epoch: Any = None) -> None:
            if stage == run.library.Stage.TRAIN and not self.inner:
                self.inner = True
                self.fit(range(1), Points(6, 3), train_loader_kwargs=SHUFFLED)
                self.inner = False

    brain = run.brain(Inner, modules(), sgd)
    train(run, brain)
    train(run, brain, epochs=1)


@scenario
def without_an_optimizer(run: Run) -> None:
    logging.getLogger().info("nothing is trained")
    train(run, run.brain(Regression, modules()), epochs=1)
