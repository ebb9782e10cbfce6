"""A small recipe with everything that a resume has to put back, and ways to interrupt it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.utils.data import DataLoader, default_collate

from brain_lightning import (
    Brain,
    Checkpointer,
    EpochCounter,
    FileTrainLogger,
    LoopedLoader,
    SaveableDataLoader,
    Stage,
)
from brain_lightning.parts.data.samplers import ReproducibleRandomSampler

EPOCHS = 3
EXAMPLES = 20
BATCH_SIZE = 3
TRAIN_BATCHES = 7
VALID_BATCHES = 2
CALLS = EPOCHS * (TRAIN_BATCHES + VALID_BATCHES)


class Interrupted(Exception):
    """Stands for a kill: what the process had in memory is gone."""


class Noise(torch.utils.data.Dataset[Any]):
    """Examples with noise from the global generator, as augmentation draws it, or from its own."""

    def __init__(
        self,
        examples: list[tuple[torch.Tensor, torch.Tensor]],
        own: torch.Generator | None = None,
    ) -> None:
        self.examples = examples
        self.own = own

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Any:
        inputs, targets = self.examples[index]
        noise = torch.randn(4) if self.own is None else torch.randn(4, generator=self.own)
        return inputs + 0.1 * noise + 0.1 * torch.randn(4), targets


class Stream(torch.utils.data.IterableDataset[Any]):
    """The same examples in an order that is drawn anew each time; it knows where it is."""

    def __init__(self, examples: Noise) -> None:
        self.examples = examples
        self.order: list[int] = []
        self.position = 0
        self.goes_on = False

    def __iter__(self) -> Iterator[Any]:
        if not self.goes_on:
            self.order, self.position = torch.randperm(len(self.examples)).tolist(), 0
        self.goes_on = False
        while self.position < len(self.order):
            self.position += 1
            yield self.examples[self.order[self.position - 1]]

    def state_dict(self) -> dict[str, Any]:
        return {"order": list(self.order), "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.order, self.position = list(state["order"]), state["position"]
        self.goes_on = True


class Groups(torch.utils.data.Sampler[list[int]]):
    """A batch sampler: shuffled batches of unequal sizes."""

    SIZES = (1, 4, 2, 5, 3, 4, 1)

    def __init__(self) -> None:
        pass

    def __iter__(self) -> Iterator[list[int]]:
        order = iter(torch.randperm(EXAMPLES).tolist())
        for size in self.SIZES:
            yield [next(order) for _ in range(size)]

    def __len__(self) -> int:
        return len(self.SIZES)


class Turning(torch.utils.data.Sampler[list[int]]):
    """Batches in an order that depends on the epochs before."""

    def __init__(self) -> None:
        self.turns = [0]
        self.generator = torch.Generator().manual_seed(4)

    def __iter__(self) -> Iterator[list[int]]:
        self.turns = [*self.turns, len(self.turns)]
        order = torch.randperm(EXAMPLES, generator=self.generator).roll(self.turns[-1])
        yield from (batch.tolist() for batch in order.split(BATCH_SIZE))

    def __len__(self) -> int:
        return TRAIN_BATCHES


def ready_made(kind: str, examples: Noise) -> Any:
    """Batches that the recipe brings itself, and of whose position no checkpoint knows."""
    if kind == "turning loader":
        return DataLoader(examples, batch_sampler=Turning())
    if kind == "list":
        parts = torch.arange(EXAMPLES).split(BATCH_SIZE)
        return [default_collate([examples.examples[i] for i in part]) for part in parts]
    return DataLoader(examples, batch_size=BATCH_SIZE, shuffle=True)


READY_MADE = ("ready loader", "turning loader", "list")


@dataclass(frozen=True)
class Setting:
    """How a run is set up."""

    options: dict[str, Any] = field(default_factory=dict)
    loader: dict[str, Any] = field(default_factory=dict)
    data: str = "map"
    callbacks: Callable[[], list[Any]] = list
    validates_in_epochs: bool = False
    trainer: dict[str, Any] = field(default_factory=dict)
    recipe: type[Recipe] | None = None
    saved: tuple[str, ...] = ("first", "second")


class Counting(torch.nn.Module):
    """Counts its batches beside its state, as SpeechBrain's LiGRU counts its dropout masks."""

    def __init__(self) -> None:
        super().__init__()
        self.used = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.used += 1
        return inputs * (1 + 0.1 * (self.used % 7))


class Recipe(Brain):
    """Two optimizers, one of them frozen at times, and a scheduler; counts its batches."""

    interrupt_at: int | None = None
    batches = 0

    @staticmethod
    def further_modules() -> dict[str, torch.nn.Module]:
        return {}

    def _count(self) -> None:
        self.batches += 1
        if self.batches == self.interrupt_at:
            raise Interrupted

    def init_optimizers(self) -> None:
        self.first = torch.optim.Adam(self.modules.first.parameters(), 0.01)
        self.second = torch.optim.SGD(self.modules.second.parameters(), 0.01, momentum=0.9)
        self.optimizers_dict = {"first": self.first, "second": self.second}
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.first, 2, 0.5)
        self.checkpointer.add_recoverables(
            {"first_opt": self.first, "second_opt": self.second, "scheduler": self.scheduler}
        )

    def freeze_optimizers(self, optimizers: dict[str, Any]) -> dict[str, Any]:
        return {"first": self.first} if self.optimizer_step % 3 == 0 else optimizers

    def compute_forward(self, batch: Any, stage: Stage) -> Any:
        return self.modules.second(self.modules.first(batch[0]))

    def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
        return torch.nn.functional.mse_loss(predictions, batch[1])

    def fit_batch(self, batch: Any) -> Any:
        loss = super().fit_batch(batch)
        self._count()  # behind the step and before anything is saved
        return loss

    def evaluate_batch(self, batch: Any, stage: Stage) -> Any:
        self._count()
        return super().evaluate_batch(batch, stage)

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        if stage == Stage.TRAIN:
            self.train_loss = stage_loss
            return
        self.scheduler.step()
        self.hparams.train_logger.log_stats(
            {"epoch": epoch, "steps": self.optimizer_step},
            train_stats={"loss": self.train_loss},
            valid_stats={"loss": stage_loss},
        )
        self.checkpointer.save_and_keep_only(meta={"loss": stage_loss}, min_keys=["loss"])


class InEpochs(Recipe):
    """Validates in the middle of epochs, and saves then as if one had ended."""

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        if stage == Stage.VALID:
            self.train_loss = self.avg_train_loss
            super().on_stage_end(stage, stage_loss, epoch)


def run(folder: Path, setting: Setting, interrupt_at: int | None) -> dict[str, Any] | None:
    """Train as far as it goes; return what a finished run ends with."""
    brain, counter, train, valid, loader = prepared(folder, setting)
    brain.interrupt_at = interrupt_at
    try:
        brain.fit(
            counter,
            train,
            valid,
            train_loader_kwargs=loader,
            valid_loader_kwargs={"batch_size": BATCH_SIZE},
        )
    except Interrupted:
        return None
    return {
        **brain.modules.state_dict(),
        "optimizers": [brain.first.state_dict(), brain.second.state_dict()],
        "step": brain.optimizer_step,
        "log": (folder / "train_log.txt").read_text(),
    }


def prepared(folder: Path, setting: Setting) -> tuple[Recipe, Any, Any, Any, dict[str, Any]]:
    """Return a Brain and what is given to its ``fit()``."""
    torch.manual_seed(1)
    first = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.Tanh(), Counting()
    )
    second = torch.nn.Linear(8, 2)
    examples = [(torch.randn(4), torch.randn(2)) for _ in range(EXAMPLES)]
    counter = EpochCounter(EPOCHS)
    kind = setting.recipe or (InEpochs if setting.validates_in_epochs else Recipe)
    modules = {"first": first, "second": second, **kind.further_modules()}
    recoverables = {"counter": counter, **{name: modules[name] for name in setting.saved}}
    brain = kind(
        modules,
        hparams={"train_logger": FileTrainLogger(str(folder / "train_log.txt"), precision=9)},
        run_opts={"noprogressbar": True, "device": "cpu", **setting.options},
        checkpointer=Checkpointer(folder / "save", recoverables),
        trainer={"callbacks": setting.callbacks(), **setting.trainer},
    )
    # A stream says itself what it goes on with, and this one has no more than its order.
    own = None if setting.data == "stream" else torch.Generator().manual_seed(9)
    train, loader = _training_data(setting, Noise(examples, own), brain.checkpointer)
    return brain, counter, train, Noise(examples[:6]), loader


def _training_data(
    setting: Setting, examples: Noise, checkpointer: Checkpointer
) -> tuple[Any, dict[str, Any]]:
    loader: dict[str, Any] = {"batch_size": BATCH_SIZE, **setting.loader}
    if setting.data == "stream":
        return Stream(examples), loader
    if setting.data == "looped":
        inner = SaveableDataLoader(examples, batch_size=BATCH_SIZE, shuffle=True)
        looped = LoopedLoader(inner, 5)
        checkpointer.add_recoverable("looped", looped)
        return looped, {}
    if setting.data in READY_MADE:
        return ready_made(setting.data, examples), {}
    if setting.data == "batch sampler":
        return examples, {"batch_sampler": Groups()}
    if setting.data == "sampler":
        return examples, {**loader, "sampler": ReproducibleRandomSampler(examples)}
    return examples, {"shuffle": True, **loader}


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def new_process() -> None:
    """A new process has other random states."""
    torch.manual_seed(77)
    torch.rand(5)


def interrupted(setting: Setting, folder: Path, cuts: tuple[int, ...]) -> dict[str, Any]:
    """Interrupt a run at each of ``cuts`` in turn, and then let it end."""
    for cut in cuts:
        finished = run(folder, setting, cut)
        new_process()
        if finished is not None:
            break
    result = run(folder, setting, None)
    assert result is not None
    return result


class Killed(BaseException):
    """Stands for a kill in the middle of what writes or deletes."""


class Disk:
    """Counts the calls that change the disk; from one of them on, none of them does anything.

    So what is raised then cannot tidy up, just as a process cannot that is killed.
    """

    CALLS = ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync")

    def __init__(self, die_before: int | None) -> None:
        self.calls = 0
        self.names: list[str] = []
        self.die_before = die_before

    @property
    def is_dead(self) -> bool:
        return self.die_before is not None and self.calls >= self.die_before

    def call(self, name: str) -> None:
        self.calls += 1
        if self.is_dead:
            raise Killed
        self.names.append(name)

    def watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.call(name)
            return function(*args, **kwargs)

        return call

    @contextmanager
    def watching(self) -> Iterator[None]:
        calls = {name: self.watched(name, getattr(os, name)) for name in self.CALLS}
        with (
            patch.object(torch, "save", self.watched("torch.save", torch.save)),
            patch.object(Path, "write_text", self.watched("write", Path.write_text)),
            patch.multiple(os, **calls),
        ):
            yield


def killed_while_writing(setting: Setting, folder: Path, die_before: int) -> dict[str, Any] | None:
    """Run until the disk dies; return what the run ended with, if that was before."""
    disk = Disk(die_before)
    with disk.watching():
        try:
            return run(folder, setting, None)
        except Killed:
            return None
        except Exception:  # what a save says of the error that stands for the kill
            if not disk.is_dead:
                raise
            return None


def calls_of_a_whole_run(setting: Setting, folder: Path) -> list[str]:
    """The calls that change the disk in a run that nothing interrupts."""
    disk = Disk(None)
    with disk.watching():
        assert run(folder, setting, None) is not None
    return disk.names
