"""One stage with ``shard_evaluation``: each process evaluates a share, all get all figures."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.connection import ATTRIBUTE, connection_of
from brain_lightning.engine.sharded_evaluation.evaluation_memory import (
    EvaluationMemory,
    release_metrics,
)
from brain_lightning.engine.sharded_evaluation.main_buffers import MainBuffers
from brain_lightning.engine.sharded_modules.sharded_calls import CallCounts
from brain_lightning.engine.stages.batch_tickets import BatchTickets
from brain_lightning.ground.gathering import all_gathered, all_gathered_bytes, packed, unpacked
from brain_lightning.ground.sharded_tensors import is_sharded_tensor
from brain_lightning.ground.stage import Stage
from brain_lightning.parts.data.batch_share import BatchShare, with_batches
from brain_lightning.parts.metrics.accumulation import Accumulation, GatheringError, Share
from brain_lightning.parts.metrics.state_tree import StateTree, name_of
from brain_lightning.parts.options.declarations import option_fields

LOOKS = 2
"""So many batches every process evaluates, to see what they change."""
LOOKS_LATER = 1
"""In a stage of a kind that was shared before."""

_ENGINES = frozenset(
    {
        ATTRIBUTE,
        "avg_train_loss",
        "checkpointer",
        "evaluation_ctx",
        "hparams",
        "opt_class",
        "optimizer",
        "optimizer_step",
        "optimizers_dict",
        "profiler",
        "raw_modules",
        "scaler",
        "step",
        "train_logger",
        "train_sampler",
        "trainer",
        "training_ctx",
    }
)
"""Attributes of a Brain or its hparams that an evaluation does not accumulate in."""

_HOW_TO_REGISTER = (
    "Lists and dictionaries that grow, SpeechBrain's statistics and torchmetrics are gathered by "
    "themselves. For anything else call brain_lightning.register_gatherable(CLASS, sums=..., "
    "last=..., ignored=... or a function), CLASS being the Brain's or that of the object it keeps."
)
_CALLED_AGAIN = (
    "a batch calls a module that is sharded (strategy fsdp2) more than once, as a beam search "
    "does. Each call needs every process, and how many there are may depend on the data"
)


class SharedEvaluation:
    """One VALID or TEST stage of which each process evaluates its share of the batches.

    Order of calls: ``open``; ``tickets.fetch`` and ``evaluate`` for each batch; ``finish``, or
    ``abandon``. Every process evaluates the first batches; from what they change is seen what is
    to be gathered. When there is something that cannot be, every process goes on with all batches.
    """

    def __init__(
        self, brain: BrainProtocol, stage: Stage, loader: DataLoader[Any], memory: EvaluationMemory
    ) -> None:
        """Prepare the stage."""
        self._brain = brain
        self._stage = stage
        self._memory = memory
        self._rank = torch.distributed.get_rank()
        self._loader = loader
        self._looks = LOOKS_LATER if stage in memory.shared else LOOKS
        shared_loader, self._batches = self._shared_loader()
        self.tickets = BatchTickets(shared_loader)
        """Gives this process's batches."""
        roots = {"self": brain, "self.hparams": getattr(brain, "hparams", None)}
        roots = {name: root for name, root in roots.items() if hasattr(root, "__dict__")}
        tree = StateTree(roots, skipped=_ENGINES | frozenset(option_fields()))
        self._accumulation = Accumulation(tree)
        self._buffers: MainBuffers | None = None
        self._calls = CallCounts(brain.modules)
        self._calls_of_first: list[int] = []
        self._done = 0
        self._is_decided = self._is_shared = False
        self._problems: list[str] = []
        self._losses: list[tuple[int, Any]] = []
        self._logged: list[tuple[int, list[Any]]] = []

    def _shared_loader(self) -> tuple[DataLoader[Any], BatchShare]:
        # Kept for the next stage, for the sake of workers that persist.
        key = (self._looks, self._limit)
        known: dict[Any, Any] = self._memory.loaders.setdefault(self._loader, {})
        if key not in known:
            known.clear()
            make = partial(
                BatchShare,
                gather=all_gathered,
                rank=self._rank,
                world_size=torch.distributed.get_world_size(),
                shared_first=self._looks,
                padded=any(is_sharded_tensor(each) for each in self._brain.modules.parameters()),
                limit=self._limit,
            )
            known[key] = with_batches(self._loader, make)
        found: tuple[DataLoader[Any], BatchShare] = known[key]
        return found

    @property
    def _limit(self) -> int | None:
        brain = self._brain
        return brain.debug_batches if brain.debug and brain.debug_batches > 0 else None

    def open(self) -> None:
        """Make the processes alike and look what there is before the first batch."""
        self.tickets.open()
        self._buffers = MainBuffers(self._brain.modules)
        self._accumulation.start()
        self._memory.accumulation = self._accumulation

    # -- batches -----------------------------------------------------------------------------------

    def evaluate(self, batch: Any) -> Any:
        """Evaluate the batch that was fetched last and return what ``evaluate_batch`` returns."""
        brain, batches = self._brain, self._batches
        if not self._is_decided and not batches.splits:
            self._go_on_whole("the processes' loaders have different data")
        number = batches.numbers[self._done] if self._has_own_numbers else self._done
        is_padding = self._is_shared and self._done >= batches.own_count
        self._done += 1
        brain.step = number + 1
        if self._is_shared:
            self._accumulation.before_batch(is_padding)
        with self._noting_logs(number, is_padding):
            loss = brain.evaluate_batch(batch, stage=self._stage)
        if not self._is_decided or self._is_shared:
            self._count_calls()
        if not is_padding:
            self._losses.append((number, loss))
        if self._is_shared:
            self._accumulation.after_batch(number, is_padding)
        elif not self._is_decided:
            self._look()
        return loss

    @property
    def _has_own_numbers(self) -> bool:
        return self._is_shared or not self._is_decided

    @contextmanager
    def _noting_logs(self, number: int, is_padding: bool) -> Iterator[None]:
        """Keep what the recipe logs until the end: the processes log different batches."""
        connection = connection_of(self._brain)
        held: list[Any] = []
        connection.held_logs = held
        try:
            yield
        finally:
            connection.held_logs = None
        if held and not is_padding:
            self._logged.append((number, held))

    def _count_calls(self) -> None:
        calls = self._calls.since_last()
        if not self._is_decided:
            # All processes have these batches, and all see the same.
            self._calls_of_first = list(map(max, calls, self._calls_of_first or calls))
        elif calls != self._calls_of_first:
            raise ValueError(
                f"shard_evaluation: in {self._stage.name} batch {self._brain.step} calls modules "
                f"that are sharded (strategy fsdp2) {calls} times, the first batches "
                f"{self._calls_of_first} times, and each call needs every process. Leave "
                "shard_evaluation off, or use ddp."
            )

    def _look(self) -> None:
        self._problems += self._accumulation.look()
        if self._done < self._looks:
            return
        outline = zlib.crc32(repr(self._accumulation.outline()).encode())
        seen = all_gathered((outline, self._problems))
        if any(calls > 1 for calls in self._calls_of_first):
            self._memory.unshareable.add(self._stage)
            self._go_on_whole(_CALLED_AGAIN)
            return
        problems = sorted({problem for _, theirs in seen for problem in theirs})
        if not problems and len({theirs for theirs, _ in seen}) > 1:
            problems = ["the processes keep different things"]
        if problems:
            self._memory.unshareable.add(self._stage)
            names = ", ".join(problems)
            self._go_on_whole(
                f"what batches change in {names} cannot be gathered. {_HOW_TO_REGISTER}"
            )
            return
        self._memory.shared.add(self._stage)
        self._is_decided = self._is_shared = True
        self._accumulation.share(starts_empty=self._rank != 0)

    def _go_on_whole(self, reason: str) -> None:
        self._memory.tell_that_whole(self._stage, reason)
        self._is_decided = True
        release_metrics(self._brain)
        if not self._batches.splits:
            return
        rest, _ = with_batches(self._loader, lambda _: self._batches.batches_from(self._done))
        self.tickets.close()
        self.tickets = BatchTickets(_WithoutDrawing(rest))
        self.tickets.open()

    # -- the end -----------------------------------------------------------------------------------

    def finish(self) -> Any:
        """Gather what all processes accumulated and return the average loss of all batches.

        Raises:
            ValueError: a later batch changed what cannot be gathered.
        """
        assert self._buffers is not None
        self._buffers.put_back()
        if self._is_shared:
            self._gather()
        average: Any = 0.0
        for number, loss in self._losses:
            self._brain.step = number + 1
            average = self._brain.update_average(loss, average)
        self._log()
        return average

    def _gather(self) -> None:
        share = self._accumulation.own_share()
        contents = (self._losses, self._logged, share)
        gathered = [unpacked(data) for data in all_gathered_bytes(_packed(contents))]
        try:
            shares = [each[2] for each in gathered]
            self._accumulation.join(shares, self._rank, all_gathered)
        except GatheringError as error:
            raise ValueError(
                f"shard_evaluation: in {self._stage.name}, after its first batches, these were "
                f"changed in a way that cannot be gathered: {error}. {_HOW_TO_REGISTER} Or leave "
                "shard_evaluation off."
            ) from error
        self._losses = _one_of_each(each[0] for each in gathered)
        self._logged = _one_of_each(each[1] for each in gathered)

    def _log(self) -> None:
        connection = connection_of(self._brain)
        for _, calls in self._logged:
            for name, value, options in calls:
                connection.log(name, value, **{**options, "on_step": False, "on_epoch": True})

    def abandon(self) -> None:
        """Leave the stage without its end."""
        if self._buffers is not None:
            self._buffers.put_back()
        release_metrics(self._brain)


class _WithoutDrawing:
    """A loader whose iterator draws no seed: the one that it takes over from has drawn its own."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Any]:
        with torch.random.fork_rng(devices=()):
            return iter(self._loader)

    def __len__(self) -> int:
        return len(self._loader)


def _one_of_each(parts: Iterator[list[tuple[int, Any]]]) -> list[tuple[int, Any]]:
    """Return what belongs to each batch, in order; of the first ones the main process's."""
    found: dict[int, Any] = {}
    for part in parts:
        for number, value in part:
            found.setdefault(number, value)
    return sorted(found.items())


def _packed(contents: tuple[Any, Any, Share]) -> bytes:
    """Return what a process sends; where something cannot be sent, what it is instead."""
    try:
        return packed(contents)
    except Exception:  # whatever an object's own pickling raises
        share = contents[2]
        problems = []
        for group in (share.growth, share.sums, share.last, share.objects):
            problems += [
                f"{name_of(path)} (cannot be pickled: {error})"
                for path, value in group.items()
                if (error := _why_not_packed(value)) is not None
            ]
        if not problems:
            raise
        return packed(([], [], dataclasses.replace(Share(), problems=problems)))


def _why_not_packed(value: Any) -> str | None:
    try:
        packed(value)
    except Exception as error:  # as above
        return str(error)
    return None
