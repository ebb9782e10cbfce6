"""One process of two that goes through what only processes that differ get into.

python -m tests.distributed.corners FOLDER CASE...
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import EarlyStopping

import brain_lightning as sb
from brain_lightning.ground.errors import MainProcessError
from brain_lightning.parts.checkpoints.hooks import (
    DEFAULT_SAVE_HOOKS,
    convert_torch_save_hooks_to_once_per_node,
)
from tests.parity.small_recipes import Points, Regression, modules, sgd

CASES: dict[str, Callable[[Path, int], Any]] = {}
OPTIONS = {"device": "cpu", "distributed_backend": "gloo", "noprogressbar": True}
LOADER = {"batch_size": 2}


def case(function: Callable[[Path, int], Any]) -> Callable[[Path, int], Any]:
    """Register a case under its name."""
    CASES[function.__name__] = function
    return function


class Counting(Regression, sb.Brain):
    """Counts its epochs."""

    epochs = 0

    def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
        if stage == sb.Stage.VALID:
            self.epochs += 1
            self.at_the_end(stage_loss, epoch)

    def at_the_end(self, loss: float, epoch: int) -> None:
        pass


def fitted(
    brain_class: type[Counting],
    counter: Any,
    save: Path | None = None,
    trainer: dict[str, Any] | None = None,
    **options: Any,
) -> Counting:
    model = modules()
    checkpointer = save and sb.Checkpointer(save, {"model": model["model"], "counter": counter})
    brain = brain_class(model, sgd, {}, {**OPTIONS, **options}, checkpointer, trainer=trainer)
    brain.fit(counter, Points(12), Points(4, 1), None, LOADER, LOADER)
    return brain


def digest(brain: Counting) -> list[float]:
    return [float(each.detach().double().sum()) for each in brain.modules.parameters()]


@case
def around_the_wrapper(folder: Path, rank: int) -> Any:
    """A recipe uses parts of a trained entry, or the entry by its name in hparams."""

    class Around(Counting):
        def compute_forward(self, batch: Any, stage: Any) -> Any:
            return part_of(self)(batch[0].to(self.device))

    def weights_with(part: Callable[[Any], Any]) -> Any:
        nonlocal part_of
        part_of = part
        torch.manual_seed(1)
        model = modules()
        brain = Around(model, sgd, {"model": model["model"]}, OPTIONS)
        data = Points(12, rank)
        try:
            brain.fit(range(1), data, None, None, LOADER)
        except AttributeError as error:
            return str(error)
        return digest(brain)

    part_of: Callable[[Any], Any] = weights_with
    parts = {
        "as entry": lambda brain: brain.modules.model,
        "a part": lambda brain: brain.modules.model.inner,
        "by hparams": lambda brain: brain.hparams.model,
    }
    return {name: weights_with(part) for name, part in parts.items()}


@case
def saved_in_a_test_before_the_next(folder: Path, rank: int) -> Any:
    """A recipe saves an average with a made-up metric in TEST, and tests the next set with it."""

    class Averaging(Counting):
        def on_evaluate_start(self, max_key: Any = None, min_key: Any = None) -> None:
            super().on_evaluate_start(max_key, min_key)
            found.append(digest(self))

        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            if stage != sb.Stage.TEST:
                return
            if rank == 0:
                time.sleep(0.5)  # the other one is at the next test by then
                with torch.no_grad():
                    for parameter in self.modules.parameters():
                        parameter.fill_(len(found))
            self.checkpointer.save_and_keep_only({"score": len(found)}, max_keys=["score"])

    found: list[list[float]] = []
    brain = fitted(Averaging, sb.EpochCounter(1), folder / "averages")
    for _ in range(3):
        brain.evaluate(Points(4), max_key="score", test_loader_kwargs=dict(LOADER))
    return found


@case
def early_stopping(folder: Path, rank: int) -> Any:
    """Only in one process the metric does not improve any more."""

    class Logging(Counting):
        def at_the_end(self, loss: float, epoch: int) -> None:
            self.log("wanted", 1.0 if rank else 1.0 / epoch)

    callback = EarlyStopping("wanted", patience=2)
    brain = fitted(Logging, sb.EpochCounter(8), trainer={"callbacks": [callback]})
    return brain.epochs, digest(brain)


@case
def stopper(folder: Path, rank: int) -> Any:
    """Only in one process the score does not improve any more."""

    class Scoring(Counting):
        def at_the_end(self, loss: float, epoch: int) -> None:
            counter.update_metric(1.0 if rank else 1.0 / epoch)

    counter = sb.EpochCounterWithStopper(8, 2, 0, "min")
    brain = fitted(Scoring, counter)
    return brain.epochs, digest(brain)


@case
def saved_by_the_main_process(folder: Path, rank: int) -> Any:
    """Saves and deletes, also at intervals; goes on from the last one."""

    class Saving(Counting):
        def at_the_end(self, loss: float, epoch: int) -> None:
            if sb.if_main_process():
                self.checkpointer.save_and_keep_only(meta={"loss": loss, "epoch": epoch})

    save = folder / "save"
    first = fitted(Saving, sb.EpochCounter(2), save, ckpt_interval_steps=1)
    again = fitted(Saving, sb.EpochCounter(3), save, ckpt_interval_steps=1)
    torch.distributed.barrier()
    found = sb.Checkpointer(save).find_checkpoints()
    return first.epochs, again.epochs, [each.meta["epoch"] for each in found], digest(again)


@case
def failing_on_the_main_process(folder: Path, rank: int) -> Any:
    """What the main process alone runs raises in the middle of a run."""

    class Failing(Counting):
        def at_the_end(self, loss: float, epoch: int) -> None:
            sb.run_on_main(self.fail)

        def fail(self) -> None:
            raise FileNotFoundError("the scoring program is not there")

    try:
        fitted(Failing, sb.EpochCounter(2))
    except (FileNotFoundError, MainProcessError) as error:
        return type(error).__name__, str(error)


@case
def evaluating_inside(folder: Path, rank: int) -> Any:
    """A test at the end of each epoch, by all; then one by the main process for all."""

    class Evaluating(Counting):
        def at_the_end(self, loss: float, epoch: int) -> None:
            self.tested = self.evaluate(Points(5, 2), test_loader_kwargs=dict(LOADER))

    brain = fitted(Evaluating, sb.EpochCounter(2))
    inside = brain.tested
    arguments = {"test_set": Points(5, 2), "test_loader_kwargs": dict(LOADER)}
    alone = sb.run_on_main(brain.evaluate, kwargs=arguments)
    return brain.epochs, inside, alone, digest(brain)


@case
def random_numbers_behind_an_evaluation(folder: Path, rank: int) -> Any:
    """The same with and without sharing, also where a stage cannot be shared after all."""

    class Evaluating(Counting):
        counts = False

        def evaluate_batch(self, batch: Any, stage: Any) -> torch.Tensor:
            if self.counts:
                self.seen = getattr(self, "seen", 0.0) + 0.5
            return super().evaluate_batch(batch, stage)

    found = {}
    for shares in (False, True):
        for counts in (False, True):
            brain = Evaluating(modules(), sgd, {}, {**OPTIONS, "shard_evaluation": shares})
            brain.counts = counts
            torch.manual_seed(rank)
            brain.evaluate(Points(12), test_loader_kwargs=dict(LOADER))
            found[f"{shares} {counts}"] = torch.rand(1).item()
    return found


@case
def both_libraries(folder: Path, rank: int) -> Any:
    """What one library runs on the main process alone waits in the other one for nobody."""
    from speechbrain.utils import distributed as theirs

    from brain_lightning.ground import ranks

    def waits_in_theirs() -> int:
        theirs.ddp_barrier()
        return rank

    def waits_in_ours() -> None:
        ranks.ddp_barrier()
        done.append(rank)

    done: list[int] = []
    ours = sb.run_on_main(waits_in_theirs)
    theirs.run_on_main(waits_in_ours)
    assert theirs.MAIN_PROC_ONLY == 0
    return ours, done


# -- Machines without a common file system -----------------------------------------------------


def own_disk(folder: Path, rank: int) -> Path:
    """Go to a folder that stands for this machine's disk; return the same path on each of them."""
    disk = folder / f"disk-{rank}"
    disk.mkdir()
    os.chdir(disk)
    return Path("save")


class SavingEach(Counting):
    """Saves in every process."""

    def at_the_end(self, loss: float, epoch: int) -> None:
        self.checkpointer.save_and_keep_only(meta={"loss": loss, "epoch": epoch})


@case
def disk_of_each_once_per_node(folder: Path, rank: int) -> Any:
    """Each machine has a folder of its own and resumes from it."""
    before = dict(DEFAULT_SAVE_HOOKS)
    convert_torch_save_hooks_to_once_per_node()
    save = own_disk(folder, rank)
    fitted(SavingEach, sb.EpochCounter(2), save)
    again = fitted(SavingEach, sb.EpochCounter(3), save)
    DEFAULT_SAVE_HOOKS.update(before)
    return again.epochs, len(list(save.glob("CKPT*"))), digest(again)


@case
def only_the_main_machine_has_one(folder: Path, rank: int) -> Any:
    """The last one: the processes have lost each other behind it."""

    class Saving(SavingEach):
        def at_the_end(self, loss: float, epoch: int) -> None:
            if sb.if_main_process():
                super().at_the_end(loss, epoch)

    save = own_disk(folder, rank)
    fitted(Saving, sb.EpochCounter(2), save)
    try:
        again = fitted(Saving, sb.EpochCounter(3), save)
    except Exception as error:
        return type(error).__name__, str(error)
    return again.epochs, len(list(save.glob("CKPT*"))), digest(again)


def main(folder: Path, names: list[str]) -> None:
    sb.ddp_init_group(OPTIONS)
    rank = torch.distributed.get_rank()
    for name in names:
        print(f"--- {name}", flush=True)
        torch.manual_seed(100 + rank)
        (folder / name).mkdir(exist_ok=True)
        found = CASES[name](folder / name, rank)
        (folder / f"{name}-{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
