"""What is saved and when, and how a run goes on from it, in either library."""

from __future__ import annotations

import shutil
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch

from .comparison import assert_same
from .library import LIBRARIES, Library
from .scenario import Run, Trace, parity, perform
from .small_recipes import (
    HIDDEN,
    INPUTS,
    OUTPUTS,
    Points,
    Regression,
    RunningCentering,
    adam,
    modules,
    network,
    sgd,
)

SHUFFLED = {"batch_size": 3, "shuffle": True}


class KilledError(Exception):
    """Stands for whatever ends a process."""


class Saving(Regression):
    """Saves at each validation's end, counts its batches, and can be killed at one of them."""

    def fit_batch(self, batch: Any) -> torch.Tensor:
        self.seen = getattr(self, "seen", 0) + 1
        if self.seen == self.hparams.killed_at:
            raise KilledError
        self.run.note("batch", inputs=batch[0], step=self.step)
        loss: torch.Tensor = super().fit_batch(batch)  # type: ignore[misc]
        return loss

    def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
        if stage == self.run.library.Stage.VALID and self.checkpointer is not None:
            self.checkpointer.save_and_keep_only(
                meta={"loss": stage_loss, "epoch": epoch}, min_keys=["loss"], num_to_keep=2
            )
        self.hparams.train_logger.log_stats(
            {"epoch": epoch}, train_stats={"loss": self.avg_train_loss}
        )


def still_network() -> torch.nn.Module:
    """A model without dropout, for runs that a resume cuts in two.

    SpeechBrain does not save random states and we do, so after a resume dropout differs.
    """
    return torch.nn.Sequential(
        torch.nn.Linear(INPUTS, HIDDEN),
        RunningCentering(HIDDEN),
        torch.nn.Tanh(),
        torch.nn.Linear(HIDDEN, OUTPUTS),
    )


def saving_brain(
    run: Run,
    options: dict[str, Any] | None = None,
    killed_at: int | None = None,
    epochs: int = 3,
    model: Any = still_network,
    recipe: type[Any] = Saving,
) -> Any:
    network = model()
    counter = run.library.EpochCounter(epochs)
    hparams = {
        "killed_at": killed_at,
        "counter": counter,
        "train_logger": run.library.FileTrainLogger(str(run.folder / "train_log.txt")),
    }
    recoverables = {"model": network, "counter": counter}
    checkpointer = run.library.Checkpointer(run.folder / "save", recoverables)
    return run.brain(recipe, {"model": network}, adam, hparams, options, checkpointer)


def fit(brain: Any, loader: dict[str, Any] = SHUFFLED) -> None:
    brain.fit(brain.hparams.counter, Points(12), Points(4, 1), train_loader_kwargs=loader)


@parity(mixed=True)
def test_best_checkpoint_is_evaluated(run: Run) -> None:
    brain = saving_brain(run, model=network)
    fit(brain)
    for keys in ({"min_key": "loss"}, {"max_key": "loss"}, {}, {"min_key": "epoch"}):
        run.note("evaluated", loss=brain.evaluate(Points(5, 2), **keys), **keys)


@parity(mixed=True)
def test_fit_again_after_checkpoints(run: Run) -> None:
    """The second fit recovers the last checkpoint into the live objects before it goes on.

    Random states are compared: a recovery in the same process draws and restores nothing.
    """
    brain = saving_brain(run, epochs=2, model=network)
    fit(brain)
    brain.hparams.counter.limit = 4
    fit(brain)
    brain.evaluate(Points(5, 2), min_key="loss")
    brain.fit(range(1), Points(6), train_loader_kwargs=SHUFFLED)


@parity(mixed=True)
def test_interval_checkpoints(run: Run) -> None:
    """The count of steps starts anew each epoch; one interval checkpoint is kept."""
    fit(saving_brain(run, {"ckpt_interval_steps": 3}, model=network))


@parity()
def test_interval_in_minutes(run: Run) -> None:
    """So short that every batch is late, but for the one that ends a debug epoch."""
    fit(saving_brain(run, {"ckpt_interval_minutes": 1e-9}, epochs=2))


@parity()
def test_no_interval(run: Run) -> None:
    fit(saving_brain(run, {"ckpt_interval_minutes": -1, "ckpt_interval_steps": 0}, epochs=2))


@parity()
def test_saving_at_every_stage(run: Run) -> None:
    """In training stages, in TEST with a made-up metric, by name, and inside evaluate."""

    class Often(Saving):
        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            stages = run.library.Stage
            if stage == stages.TRAIN:
                self.checkpointer.save_checkpoint(name=f"epoch{epoch}", meta={"loss": 2.0})
            elif stage == stages.VALID:
                self.checkpointer.save_and_keep_only(
                    meta={"loss": stage_loss}, end_of_epoch=False, num_to_keep=1
                )
            else:
                self.checkpointer.save_and_keep_only(meta={"loss": -1.0}, min_keys=["loss"])

    brain = saving_brain(run, recipe=Often, epochs=2)
    fit(brain)
    brain.evaluate(Points(4, 2), min_key="loss")
    names = [checkpoint.path.name for checkpoint in brain.checkpointer.find_checkpoints()]
    run.note("found", count=len(names), named=[name for name in names if name.count("+") == 1])


@parity()
def test_recovery_of_the_recipe(run: Run) -> None:
    """on_evaluate_start averages checkpoints itself; on_fit_start is replaced."""

    class Averaging(Saving):
        def on_fit_start(self) -> None:
            self.init_optimizers()

        def on_evaluate_start(self, max_key: Any = None, min_key: Any = None) -> None:
            super().on_evaluate_start(max_key=max_key, min_key=min_key)  # type: ignore[misc]
            checkpoints = self.checkpointer.find_checkpoints(min_key=min_key, max_num_checkpoints=2)
            states = [torch.load(found.paramfiles["model"]) for found in checkpoints]
            mean = {key: sum(state[key] for state in states) / len(states) for key in states[0]}
            self.modules.model.load_state_dict(mean)
            self.modules.model.eval()

    brain = saving_brain(run, recipe=Averaging)
    fit(brain)
    run.note("evaluated", loss=brain.evaluate(Points(5, 2), min_key="loss"))


@parity()
def test_recoverable_of_the_recipe(run: Run) -> None:
    """With hooks of its own, added after the recover."""

    @run.library.register_checkpoint_hooks
    class Tally:
        def __init__(self) -> None:
            self.count = 0

        @run.library.mark_as_saver
        def save(self, path: Any) -> None:
            Path(path).write_text(str(self.count))

        @run.library.mark_as_loader
        def load(self, path: Any, end_of_epoch: bool) -> None:
            self.count = int(Path(path).read_text())
            run.note("loaded", count=self.count, end_of_epoch=end_of_epoch)

    class Tallying(Saving):
        def on_fit_start(self) -> None:
            super().on_fit_start()  # type: ignore[misc]
            self.checkpointer.add_recoverable("tally", tally)

        def on_fit_batch_end(self, *arguments: Any) -> None:
            tally.count += 1

    tally = Tally()
    brain = saving_brain(run, {"ckpt_interval_steps": 2}, recipe=Tallying, epochs=2)
    fit(brain)
    tally.count = -1
    brain.evaluate(Points(4, 2), min_key="loss")


@parity()
def test_one_checkpointer_for_two_brains(run: Run) -> None:
    """A recipe that prepares its Brains itself; each takes the name "brain" in turn."""
    shared = still_network()
    checkpointer = run.library.Checkpointer(run.folder / "save", {"model": shared})
    first = run.brain(Regression, {"model": shared}, adam, checkpointer=checkpointer)
    first.fit(range(1), Points(6), train_loader_kwargs={"batch_size": 2})
    checkpointer.save_checkpoint(name="first")
    second = run.brain(Regression, {"model": shared}, adam, checkpointer=checkpointer)
    run.note("names", brain_is_second=checkpointer.recoverables["brain"] is second)
    second.fit(range(1), Points(6), train_loader_kwargs={"batch_size": 2})
    checkpointer.save_checkpoint()
    first.evaluate(Points(4, 1))


# How a first process ended, and what it left: (options, killed at which batch, loader)
INTERRUPTIONS: dict[str, tuple[dict[str, Any], int | None, dict[str, Any]]] = {
    "at_the_end_of_an_epoch": ({}, 6, SHUFFLED),
    "in_the_middle_of_an_epoch": ({"ckpt_interval_steps": 2}, 8, SHUFFLED),
    "in_the_first_epoch": ({"ckpt_interval_steps": 1}, 3, SHUFFLED),
    "with_workers": ({"ckpt_interval_steps": 2}, 8, {**SHUFFLED, "num_workers": 1}),
    "after_the_last_batch": ({"ckpt_interval_steps": 4}, 5, SHUFFLED),
    "beyond_the_step_limit": (
        {"optimizer_step_limit": 5, "ckpt_interval_steps": 1},
        None,
        SHUFFLED,
    ),
    "when_all_is_done": ({}, None, SHUFFLED),
    # Here our checkpoints know more, so only those that SpeechBrain wrote, or that it continues,
    # go on with its numbers: gradients that have accumulated, and the place of a looped loader in
    # its data (SpeechBrain's has only the one in the nominal epoch).
    "with_accumulation": ({"ckpt_interval_steps": 3, "grad_accumulation_factor": 2}, 8, SHUFFLED),
    "in_a_looped_loader": (
        {"ckpt_interval_steps": 2},
        8,
        {"batch_size": 3, "looped_nominal_epoch": 5},
    ),
}
COMPARABLE = list(INTERRUPTIONS)[:-2]
MOVED = [
    (interruption, first, second)
    for interruption in ("at_the_end_of_an_epoch", "in_the_middle_of_an_epoch")
    for first, second in (
        ("speechbrain", "brain_lightning"),
        ("brain_lightning", "speechbrain"),
        ("speechbrain", "mixed"),
    )
]
# SpeechBrain saves no random states, so what a resumed run draws is not comparable.
NOT_RESUMED_THERE = ("rng",)


def first_part(name: str) -> Any:
    options, killed_at, loader = INTERRUPTIONS[name]

    def scenario(run: Run) -> None:
        brain = saving_brain(run, options, killed_at)
        if killed_at is None:
            fit(brain, loader)
        else:
            with run.expecting(KilledError):
                fit(brain, loader)

    return scenario


def second_part(name: str) -> Any:
    options, _, loader = INTERRUPTIONS[name]

    def scenario(run: Run) -> None:
        brain = saving_brain(run, options)
        fit(brain, loader)
        run.note("evaluated", loss=brain.evaluate(Points(5, 2), min_key="loss"))

    return scenario


def continued(name: str, first: str, second: str, folder: Path) -> Trace:
    """Run the first part under one library, and the second under another from what it left."""
    libraries: dict[str, Library] = {key: LIBRARIES[key]() for key in {first, second}}
    perform(first_part(name), libraries[first], folder)
    return perform(second_part(name), libraries[second], folder)


@pytest.mark.parametrize("interruption", COMPARABLE)
def test_resumed(interruption: str, tmp_path: Path) -> None:
    """Interrupted and resumed in one library: the second part's numbers are SpeechBrain's."""
    folder = tmp_path / "reference"
    first = perform(first_part(interruption), LIBRARIES["speechbrain"](), folder)
    ours = perform(first_part(interruption), LIBRARIES["brain_lightning"](), tmp_path / "ours")
    assert_same(first, ours)
    expected = perform(second_part(interruption), LIBRARIES["speechbrain"](), folder)
    found = perform(second_part(interruption), LIBRARIES["brain_lightning"](), tmp_path / "ours")
    assert_same(expected, found, ignore=NOT_RESUMED_THERE)


@pytest.mark.parametrize(
    ("interruption", "first", "second"),
    [
        *MOVED,
        *(
            pytest.param(interruption, first, second, marks=pytest.mark.long)
            for interruption in ("with_accumulation", "in_a_looped_loader")
            for first, second in permutations(("speechbrain", "brain_lightning"))
        ),
    ],
)
def test_moved_to_the_other_library(
    interruption: str, first: str, second: str, tmp_path: Path
) -> None:
    """A checkpoint of one library is continued by the other with its exact numbers."""
    expected = continued(interruption, "speechbrain", "speechbrain", tmp_path / "reference")
    found = continued(interruption, first, second, tmp_path / "moved")
    assert_same(expected, found, ignore=NOT_RESUMED_THERE)


@pytest.mark.parametrize("interruption", ["at_the_end_of_an_epoch", "in_the_middle_of_an_epoch"])
def test_moved_there_and_back(interruption: str, tmp_path: Path) -> None:
    """What SpeechBrain wrote while continuing our run is again a checkpoint for us."""
    expected = continued(interruption, "speechbrain", "speechbrain", tmp_path / "reference")
    found = continued(interruption, "brain_lightning", "speechbrain", tmp_path / "moved")
    assert_same(expected, found, ignore=NOT_RESUMED_THERE)
    shutil.copytree(tmp_path / "reference", tmp_path / "reference_again")
    done = second_part("when_all_is_done")
    expected = perform(done, LIBRARIES["speechbrain"](), tmp_path / "reference_again")
    found = perform(done, LIBRARIES["brain_lightning"](), tmp_path / "moved")
    assert_same(expected, found, ignore=NOT_RESUMED_THERE)


@parity(ignore=NOT_RESUMED_THERE)
def test_several_optimizers_resumed(run: Run) -> None:
    """Each optimizer is a recoverable that the recipe adds."""

    class Two(Saving):
        def init_optimizers(self) -> None:
            first, *_, last = self.modules.model
            self.first, self.last = sgd(first.parameters()), adam(last.parameters())
            self.optimizers_dict = {"first": self.first, "last": self.last}
            for name, optimizer in self.optimizers_dict.items():
                self.checkpointer.add_recoverable(name, optimizer)

    with run.expecting(KilledError):
        fit(saving_brain(run, killed_at=7, recipe=Two))
    fit(saving_brain(run, recipe=Two))


@parity()
def test_evaluation_in_a_new_process(run: Run) -> None:
    """Only evaluate is called, with a model that was never trained here, and test_only is on."""
    fit(saving_brain(run, epochs=2))
    brain = saving_brain(run, {"test_only": True})
    fit(brain)
    run.note("evaluated", loss=brain.evaluate(Points(5, 2), min_key="loss"))


@parity(ignore=NOT_RESUMED_THERE)
def test_ready_loader_saved_by_the_recipe(run: Run) -> None:
    """Brain saves only the loaders that it makes; a recipe adds its own."""
    for killed_at in (7, None):
        brain = saving_brain(run, {"ckpt_interval_steps": 2}, killed_at)
        loader = run.library.SaveableDataLoader(Points(12), batch_size=3)
        valid = torch.utils.data.DataLoader(Points(4, 1))
        brain.checkpointer.add_recoverable("loader", loader)
        if killed_at is None:
            brain.fit(brain.hparams.counter, loader, valid)
        else:
            with run.expecting(KilledError):
                brain.fit(brain.hparams.counter, loader, valid)


@parity()
def test_no_checkpointer(run: Run) -> None:
    """The interval options are there, and there is nothing to save with: no file is written."""
    options = {"ckpt_interval_steps": 1}
    brain = run.brain(Regression, modules(), sgd, run_opts=options)
    brain.fit(range(2), Points(6), Points(4, 1), train_loader_kwargs=SHUFFLED)
    brain.evaluate(Points(4, 1))
