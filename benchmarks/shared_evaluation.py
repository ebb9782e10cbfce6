"""Evaluation time of two processes with and without ``shard_evaluation``.

A GRU over 120 batches of noise, with error rates of made-up words, so that both computing and
gathering count. Run on a machine with two free cores::

    python benchmarks/shared_evaluation.py [BATCHES]

Both ways take turns in the same two processes, three times; the fastest run of each counts. The
first stage of a kind evaluates two batches on every process, the later ones one; all of them count.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
import warnings
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

import brain_lightning as sb

WORDS = ("red", "green", "blue", "black")


class Recognizer(sb.Brain):
    def on_stage_start(self, stage: Any, epoch: Any = None) -> None:
        from speechbrain.utils.metric_stats import ErrorRateStats

        self.rates = ErrorRateStats()

    def compute_forward(self, batch: Any, stage: Any) -> Any:
        return self.modules["model"](batch[0])[0]

    def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
        ids = [f"item {index}" for index in batch[1].tolist()]
        guesses = predictions[:, :20, :4].argmax(-1).tolist()
        words = [[WORDS[each] for each in sentence] for sentence in guesses]
        self.rates.append(ids, words, [list(WORDS) * 5 for _ in ids])
        return predictions.square().mean()

    def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
        self.rate = self.rates.summarize("error_rate")


def brain_with(sharded: bool) -> Any:
    torch.manual_seed(1)
    model = torch.nn.GRU(64, 256, num_layers=2, batch_first=True)
    options = {
        "device": "cpu",
        "noprogressbar": True,
        "distributed_backend": "gloo",
        "shard_evaluation": sharded,
    }
    return Recognizer({"model": model}, run_opts=options, hparams={})


def work(batches: int) -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sb.ddp_init_group({"distributed_backend": "gloo"})
    torch.manual_seed(2)
    items = TensorDataset(torch.randn(8 * batches, 100, 64), torch.arange(8 * batches))
    loader = DataLoader(items, 8)
    brains = {sharded: brain_with(sharded) for sharded in (False, True)}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    figures = {}
    for _ in range(3):
        for sharded, brain in brains.items():
            torch.distributed.barrier()
            start = time.perf_counter()
            loss = brain.evaluate(loader)
            torch.distributed.barrier()
            seconds[sharded].append(time.perf_counter() - start)
            figures[sharded] = (loss, brain.rate)
    assert figures[False] == figures[True], figures
    if sb.if_main_process():
        whole, shared = (min(seconds[sharded]) for sharded in (False, True))
        print(f"{'evaluation of ' + str(batches) + ' batches':<40}seconds   batches per second")
        for name, value in (("whole on both processes", whole), ("shard_evaluation", shared)):
            print(f"{name:<40}{value:7.2f}{batches / value:21.1f}")
        print(f"{whole / shared:.2f} times faster; the same figures: loss, error rate")
    torch.distributed.destroy_process_group()


def main() -> None:
    if "RANK" in os.environ:
        work(int(sys.argv[1]))
        return
    batches = sys.argv[1] if len(sys.argv) > 1 else "120"
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command, __file__, batches], env=environment, check=True)


if __name__ == "__main__":
    main()
