"""One process of several that trains on its share of different loaders, and notes which items.

python -m tests.distributed.data_shares FOLDER
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import BatchSampler, IterableDataset, SequentialSampler

import brain_lightning as sb
from tests.parity.small_recipes import sgd


class Noting(sb.Brain):
    """Trains on numbers, of which it notes those of each epoch."""

    def on_stage_start(self, stage: Any, epoch: Any = None) -> None:
        self.epochs: list[list[int]] = [*getattr(self, "epochs", []), []]

    def compute_forward(self, batch: Any, stage: Any) -> Any:
        self.epochs[-1] += batch.tolist()
        return self.modules["model"](batch[:, None].float())

    def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
        return predictions.mean()


class Stream(IterableDataset[int]):
    """Can be divided."""

    def __init__(self, numbers: range) -> None:
        self.numbers = numbers

    def __iter__(self) -> Any:
        return iter(self.numbers)

    def shard(self, num_shards: int, index: int) -> Stream:
        return Stream(self.numbers[index::num_shards])


class Whole(IterableDataset[int]):
    """Does not say how it is divided."""

    def __iter__(self) -> Any:
        return iter(range(6))


def dynamic_batches() -> Any:
    from speechbrain.dataio.sampler import DynamicBatchSampler

    lengths = [1 + (index * 7) % 5 for index in range(40)]
    return DynamicBatchSampler(
        list(range(40)),
        max_batch_length=8,
        num_buckets=4,
        shuffle=True,
        lengths_list=lengths,
        batch_ordering="random",
    )


def cases() -> dict[str, tuple[Any, dict[str, Any]]]:
    numbers = list(range(12))
    sampler = BatchSampler(SequentialSampler(numbers), 2, drop_last=False)
    return {
        "shuffled": (numbers, {"batch_size": 2, "shuffle": True}),
        "sampler": (numbers, {"batch_size": 2, "sampler": SequentialSampler(numbers)}),
        "batch sampler": (numbers, {"batch_sampler": sampler}),
        "dynamic batches": (list(range(40)), {"batch_sampler": dynamic_batches()}),
        "stream": (Stream(range(12)), {"batch_size": 2}),
        "stream with workers": (Stream(range(24)), {"batch_size": 2, "num_workers": 2}),
        "whole stream": (Whole(), {"batch_size": 2}),
    }


class Warnings(logging.Handler):
    """Keeps what the library warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    options = {"device": "cpu", "noprogressbar": True, "distributed_backend": "gloo"}
    sb.ddp_init_group(options)
    handler = Warnings()
    logging.getLogger("brain_lightning").addHandler(handler)
    found = {}
    for name, (data, loader) in cases().items():
        handler.messages.clear()
        brain = Noting({"model": torch.nn.Linear(1, 1)}, sgd, {}, options)
        brain.fit(range(2), data, train_loader_kwargs=loader)
        found[name] = {"epochs": brain.epochs, "warnings": list(handler.messages)}
    rank = torch.distributed.get_rank()
    (folder / f"found-{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
