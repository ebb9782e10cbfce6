"""Where batches come from, in which order they are drawn, and who draws random numbers when."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, get_worker_info

from .scenario import Run, parity
from .small_recipes import (
    INPUTS,
    OUTPUTS,
    AugmentedPoints,
    Points,
    PointStream,
    Regression,
    SizedPointStream,
    modules,
    sgd,
)


class Watching(Regression):
    """Notes the batches that it is given."""

    def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
        self.run.note("batch", inputs=batch[0], stage=stage)
        return super().compute_forward(batch, stage)


class WorkerSeeds(Dataset[Any]):
    """Every item tells the seed of the worker that made it."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        info = get_worker_info()
        seed = -1 if info is None else info.seed % 1000
        return torch.full((INPUTS,), seed / 1000), torch.randn(OUTPUTS)


@parity(mixed=True)
def test_two_workers_with_shuffling(run: Run) -> None:
    brain = run.brain(Watching, modules(), sgd)
    loader = {"batch_size": 3, "shuffle": True, "num_workers": 2}
    counter = run.library.EpochCounter(2)
    brain.fit(counter, AugmentedPoints(8), AugmentedPoints(4), None, loader, {"num_workers": 1})


@parity()
def test_worker_seeds(run: Run) -> None:
    brain = run.brain(Watching, modules(), sgd)
    loader = {"batch_size": 2, "num_workers": 2}
    brain.fit(range(2), WorkerSeeds(), train_loader_kwargs=loader)


@parity()
def test_persistent_workers(run: Run) -> None:
    """Workers outlive an epoch and prefetch at once when the next one begins."""
    brain = run.brain(Watching, modules(), sgd)
    loader = {"batch_size": 2, "num_workers": 2, "persistent_workers": True, "shuffle": True}
    brain.fit(range(3), AugmentedPoints(8), Points(4, 1), train_loader_kwargs=loader)
    run.note("workers left", count=len(multiprocessing.active_children()))


@parity()
def test_workers_of_an_epoch_that_is_left_early(run: Run) -> None:
    """Workers end with the loop that they worked for, not when garbage is next collected."""
    options = {"debug": True, "debug_batches": 1, "debug_epochs": 1}
    brain = run.brain(Watching, modules(), sgd, run_opts=options)
    loader = {"batch_size": 2, "num_workers": 2}
    brain.fit(range(3), AugmentedPoints(8), AugmentedPoints(8), None, loader, loader)
    run.note("workers left", count=len(multiprocessing.active_children()))
    brain.evaluate(AugmentedPoints(8), test_loader_kwargs=loader)
    run.note("workers left", count=len(multiprocessing.active_children()))


@parity()
def test_random_items_without_workers(run: Run) -> None:
    """Items and dropout draw from one generator: a batch read ahead would change both."""
    brain = run.brain(Watching, modules(), sgd)
    loader = {"batch_size": 3, "shuffle": True}
    brain.fit(range(2), AugmentedPoints(8), AugmentedPoints(5), None, loader, {"batch_size": 2})
    brain.evaluate(AugmentedPoints(3))


@parity()
def test_drop_last(run: Run) -> None:
    brain = run.brain(Watching, modules(), sgd)
    loader = {"batch_size": 4, "shuffle": True, "drop_last": True}
    brain.fit(range(2), Points(10), Points(4, 1), train_loader_kwargs=loader)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stream", [PointStream, SizedPointStream])
@pytest.mark.parametrize("candidate", ["ours", "ours_unobserved"])
def test_streams(workers: int, stream: Any, candidate: str, tmp_path: Any) -> None:
    """Draw from the global generator whenever an item is asked for, with and without a length."""

    @parity()
    def streams(run: Run) -> None:
        if workers and stream is SizedPointStream:
            # Two workers give twice the length; torch warns, so the data is made shorter.
            loader = {"batch_size": 4, "num_workers": 1}
        else:
            loader = {"batch_size": 4, "num_workers": workers}
        brain = run.brain(Watching, modules(), sgd)
        brain.fit(range(2), stream(10), stream(5), None, loader, {"batch_size": 2})
        brain.evaluate(stream(4))

    streams(candidate=candidate, tmp_path=tmp_path)


@parity(mixed=True)
def test_looped_loader(run: Run) -> None:
    """Two nominal epochs and a half of the data; the loop over it goes on between epochs."""
    brain = run.brain(Watching, modules(), sgd)
    loader = {"batch_size": 3, "looped_nominal_epoch": 2}
    brain.fit(run.library.EpochCounter(3), PointStream(9), Points(4, 1), None, loader)


@parity()
def test_looped_loader_made_by_the_recipe(run: Run) -> None:
    inner = run.library.make_dataloader(Points(7), batch_size=3, shuffle=True)
    looped = run.library.LoopedLoader(inner, 4)
    valid = run.library.LoopedLoader(DataLoader(Points(3)), 2)
    brain = run.brain(Watching, modules(), sgd)
    brain.fit(range(3), looped, valid)
    brain.evaluate(valid)
    run.note("looped", steps=looped.total_steps, samples=looped.total_samples, step=looped.step)


@parity()
def test_looped_loader_left_early(run: Run) -> None:
    """Debug leaves the loop in the middle, so the next epoch finishes the nominal one."""
    looped = run.library.LoopedLoader(DataLoader(Points(7), batch_size=2), 3)
    options = {"debug": True, "debug_batches": 2, "debug_epochs": 3}
    brain = run.brain(Watching, modules(), sgd, run_opts=options)
    brain.fit(run.library.EpochCounter(5), looped)
    run.note("looped", steps=looped.total_steps, step=looped.step)


class RecordingSampler(RandomSampler):
    """A sampler of the recipe's own; notes set_epoch and the start of each pass."""

    def __init__(self, run: Run, data: Any) -> None:
        super().__init__(data)
        self.run = run

    def set_epoch(self, epoch: int) -> None:
        self.run.note("set_epoch", epoch=epoch)
        self.generator = torch.Generator().manual_seed(epoch)

    def __iter__(self) -> Iterator[int]:
        self.run.note("sampler starts")
        return super().__iter__()


@parity()
def test_train_sampler_set_by_the_recipe(run: Run) -> None:
    """Only train_sampler is told the epoch, and it is the recipe's epoch."""
    points, valid_points = Points(7), Points(4, 1)
    train_sampler = RecordingSampler(run, points)
    train = DataLoader(points, batch_size=3, sampler=train_sampler)
    valid = DataLoader(valid_points, sampler=RecordingSampler(run, valid_points))
    brain = run.brain(Watching, modules(), sgd)
    brain.train_sampler = train_sampler
    brain.fit([4, 9], train, valid)
    brain.evaluate(valid)


@parity()
def test_sampler_that_the_brain_is_not_told_of(run: Run) -> None:
    points = Points(7)
    train = DataLoader(points, batch_size=3, sampler=RecordingSampler(run, points))
    brain = run.brain(Watching, modules(), sgd)
    brain.fit(run.library.EpochCounter(2), train)


@parity()
def test_sampler_in_the_loader_arguments(run: Run) -> None:
    points = Points(7)
    loader = {"batch_size": 3, "sampler": RecordingSampler(run, points)}
    brain = run.brain(Watching, modules(), sgd)
    brain.fit(run.library.EpochCounter(2), points, train_loader_kwargs=loader)


class ChangingBatches:
    """Another number of batches each epoch, and work to do after the last one."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.size = 2

    def set_epoch(self, epoch: int) -> None:
        self.run.note("batch sampler set_epoch", epoch=epoch)

    def __len__(self) -> int:
        return -(-8 // self.size)

    def __iter__(self) -> Iterator[list[int]]:
        self.run.note("batch sampler starts", length=len(self))
        yield from (list(range(8))[first : first + self.size] for first in range(0, 8, self.size))
        self.size += 1
        self.run.note("batch sampler is done", drawn=torch.rand(()))


@parity(mixed=True)
def test_batch_sampler_that_changes_between_epochs(run: Run) -> None:
    brain = run.brain(Watching, modules(), sgd)
    loader = {"batch_sampler": ChangingBatches(run)}
    valid = {"batch_sampler": ChangingBatches(run)}
    brain.fit(run.library.EpochCounter(3), Points(8), Points(8, 1), None, loader, valid)
    brain.evaluate(Points(8), test_loader_kwargs={"batch_sampler": ChangingBatches(run)})


@parity()
def test_batch_sampler_as_train_sampler(run: Run) -> None:
    brain = run.brain(Watching, modules(), sgd)
    batches = ChangingBatches(run)
    brain.train_sampler = batches
    brain.fit(range(3), Points(8), train_loader_kwargs={"batch_sampler": batches})


def dynamic_items(size: int) -> Any:
    from speechbrain.dataio.dataset import DynamicItemDataset

    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(3, 20, (size,), generator=generator).tolist()
    entries = {
        f"item{index}": {"signal": torch.randn(length, generator=generator), "duration": length}
        for index, length in enumerate(lengths)
    }
    data = DynamicItemDataset(entries)

    def halved(signal: torch.Tensor) -> torch.Tensor:
        return signal / 2

    data.add_dynamic_item(halved, takes="signal", provides="half")
    data.set_output_keys(["id", "signal", "half"])
    return data


class Padded(Regression):
    """Reads a PaddedBatch, as every speech recipe does."""

    def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
        batch = batch.to(self.device)
        signals, lengths = batch.signal
        self.run.note("batch", ids=list(batch.id), signals=signals, lengths=lengths)
        return self.modules.model((signals.mean(1) * lengths).unsqueeze(1).expand(-1, INPUTS))

    def compute_objectives(self, predictions: torch.Tensor, batch: Any, stage: Any) -> torch.Tensor:
        return ((predictions - batch.half.data.mean(1, keepdim=True)) ** 2).mean()


@parity(mixed=True)
def test_dynamic_batch_sampler(run: Run) -> None:
    """SpeechBrain's own, over its own data set: the batches change after each pass."""
    from speechbrain.dataio.sampler import DynamicBatchSampler

    data = dynamic_items(14)
    sampler = DynamicBatchSampler(data, 40, num_buckets=2, shuffle=True)
    brain = run.brain(Padded, modules(), sgd)
    loader = {"batch_sampler": sampler}
    counter = run.library.EpochCounter(3)
    brain.fit(counter, data, dynamic_items(4), None, loader, {"batch_size": 2})
    brain.evaluate(dynamic_items(5), test_loader_kwargs={"batch_size": 2})


@parity()
def test_dynamic_items_with_shuffling(run: Run) -> None:
    brain = run.brain(Padded, modules(), sgd)
    loader = {"batch_size": 3, "shuffle": True, "num_workers": 1}
    brain.fit(range(2), dynamic_items(8), dynamic_items(4), None, loader, {"batch_size": 2})


@parity()
def test_make_dataloader_by_the_recipe(run: Run) -> None:
    """Recipes override it, and call it before fit; shuffle cannot go with a sampler."""

    class Making(Watching):
        def make_dataloader(
            self, dataset: Any, stage: Any, ckpt_prefix: Any = "dataloader-", **kwargs: Any
        ) -> Any:
            loader = super().make_dataloader(  # type: ignore[misc]
                dataset, stage, ckpt_prefix, **{**kwargs, "batch_size": 5}
            )
            run.note("made", kind=type(loader).__name__, length=len(loader))
            return loader

    brain = run.brain(Making, modules(), sgd)
    ready = brain.make_dataloader(Points(8), run.library.Stage.TRAIN, shuffle=True)
    brain.fit(range(2), ready, Points(4, 1))
    brain.fit(range(1), Points(8), Points(4, 1), train_loader_kwargs={"shuffle": True})
    with run.expecting(ValueError):
        brain.make_dataloader(
            Points(8), run.library.Stage.TRAIN, shuffle=True, sampler=RandomSampler(Points(8))
        )


@parity()
def test_loader_arguments_of_the_caller(run: Run) -> None:
    """evaluate writes ckpt_prefix into the caller's dictionary; fit leaves its own alone."""
    brain = run.brain(Watching, modules(), sgd)
    train, valid, test = {"shuffle": True}, {"batch_size": 2}, {"batch_size": 2}
    brain.fit(range(1), Points(4), Points(4, 1), None, train, valid)
    brain.evaluate(Points(4), test_loader_kwargs=test)
    run.note("left", train=train, valid=valid, test=test)


@parity()
def test_seed_from_the_environment(run: Run) -> None:
    import os

    os.environ["SB_GLOBAL_SEED"] = "7"
    brain = run.brain(Watching, modules(), sgd)
    brain.fit([0, 1], Points(8), train_loader_kwargs={"shuffle": True, "batch_size": 3})


@parity()
def test_batches_of_other_kinds(run: Run) -> None:
    """A batch is handed over as the loader gave it: nothing moves, copies or unpacks it."""

    class Kinds(Regression):
        def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
            run.note("batch", kind=type(batch).__name__, keys=list(batch), same=batch is last[-1])
            return self.modules.model(batch["inputs"])

        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> torch.Tensor:
            return predictions.mean()

    def collate(items: list[Any]) -> Any:
        last.append({"inputs": torch.stack([item[0] for item in items]), "names": ["a", None]})
        return last[-1]

    last: list[Any] = []
    brain = run.brain(Kinds, modules(), sgd)
    loader = {"batch_size": 2, "collate_fn": collate}
    brain.fit(range(1), Points(4), Points(4, 1), None, loader, loader)
    brain.evaluate(Points(4), test_loader_kwargs=dict(loader))


@parity()
def test_loader_that_counts_its_batches(run: Run) -> None:
    """How far a loader of the recipe's own is read, and when."""

    class Counting(DataLoader[Any]):
        def __iter__(self) -> Any:
            run.note("pass begins")
            for index, batch in enumerate(super().__iter__()):
                run.note("batch asked for", index=index)
                yield batch
            run.note("pass is over")

    brain = run.brain(Watching, modules(), sgd)
    brain.fit(range(2), Counting(Points(6), batch_size=2), Counting(Points(2)))
    brain.evaluate(Counting(Points(2)))
