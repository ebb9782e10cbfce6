"""One process of several in which something goes wrong.

python -m tests.distributed.faults KIND RANK STEP FOLDER
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.data import DataLoader, IterableDataset

import brain_lightning as sb
from tests.parity.small_recipes import INPUTS, OUTPUTS, Points, Regression, modules, sgd

INTERVAL = 3  # steps between checkpoints
TESTED = 100  # batches of a test


class Faulty(Regression):
    """Misbehaves in one process at one step."""

    def fit_batch(self, batch: Any) -> torch.Tensor:
        Path(self.hparams.folder, f"step-{self.hparams.rank}").write_text(str(self.step))
        if self.hparams.rank == self.hparams.bad_rank and self.step == self.hparams.bad_step:
            if self.hparams.rank == 0:
                self._wait_for_the_last_checkpoint()
            misbehave(self.hparams.kind)
        time.sleep(0.02)
        loss: torch.Tensor = super().fit_batch(batch)  # type: ignore[misc]
        return loss

    def _wait_for_the_last_checkpoint(self) -> None:
        """It is written beside training, and is lost with a process that is killed meanwhile."""
        expected = (self.step - 1) // INTERVAL * INTERVAL
        deadline = time.monotonic() + 30
        while expected and expected not in self._steps_saved():
            assert time.monotonic() < deadline, f"the checkpoint of step {expected} is not written"
            time.sleep(0.01)

    def _steps_saved(self) -> list[int]:
        saved = Path(self.hparams.folder, "save").glob("CKPT+*/brain.ckpt")
        return [yaml.safe_load(path.read_text())["step"] for path in saved]

    def compute_objectives(self, predictions: torch.Tensor, batch: Any, stage: Any) -> torch.Tensor:
        loss = super().compute_objectives(predictions, batch, stage)
        h = self.hparams
        if h.kind == "terminate_in_validation" and h.rank == h.bad_rank and stage == sb.Stage.VALID:
            misbehave("terminate")
        if stage == sb.Stage.TEST:
            self._misbehave_in_test()
        bad = h.kind == "nonfinite" and h.rank == h.bad_rank and self.step >= h.bad_step
        return loss * float("nan") if bad else loss

    def _misbehave_in_test(self) -> None:
        h = self.hparams
        kind, _, place = h.kind.partition("_in_test")
        if h.rank == h.bad_rank and place == f" {self.step}":
            misbehave(kind)
        time.sleep(0.05)
        Path(h.folder, f"tested-{h.rank}").write_text(str(self.step))


def misbehave(kind: str) -> None:
    if kind == "raise":
        raise ValueError("the data of this process are bad")
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "exit":
        sys.exit(0)
    if kind == "os_exit":
        os._exit(0)
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if kind == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    if kind == "slow":
        time.sleep(3)


class Stream(IterableDataset[Any]):
    """As many items as the process has."""

    def __init__(self, size: int, hangs_at: int = -1) -> None:
        self.size = size
        self.hangs_at = hangs_at

    def __iter__(self) -> Any:
        for index in range(self.size):
            if index == self.hangs_at:
                time.sleep(1000)
            generator = torch.Generator().manual_seed(index)
            inputs = torch.randn(INPUTS, generator=generator)
            yield inputs, torch.randn(OUTPUTS, generator=generator)


def main(kind: str, bad_rank: int, bad_step: int, folder: Path) -> None:
    sb.ddp_init_group({"distributed_backend": "gloo"})
    rank = torch.distributed.get_rank()
    model = modules()
    counter = sb.EpochCounter(2)
    checkpointer = sb.Checkpointer(folder / "save", {"model": model["model"], "counter": counter})
    hparams = {
        "kind": kind,
        "rank": rank,
        "bad_rank": bad_rank,
        "bad_step": bad_step,
        "folder": str(folder),
    }
    options = {
        "device": "cpu",
        "distributed_backend": "gloo",
        "noprogressbar": True,
        "ckpt_interval_steps": INTERVAL,
    }
    brain_class = type("FaultyBrain", (Faulty, sb.Brain), {})
    trainer = {"strategy": os.environ.get("STRATEGY", "ddp")}
    brain = brain_class(model, sgd, hparams, options, checkpointer, trainer=trainer)
    size, hangs_at = 20, -1
    if rank == bad_rank:
        size = bad_step if kind == "fewer" else size
        hangs_at = bad_step if kind == "loader" else -1
    loader = DataLoader(Stream(size, hangs_at), batch_size=1)
    if kind == "before" and rank == bad_rank:
        misbehave("raise")
    if "_in_test" in kind:
        brain.evaluate(DataLoader(Points(TESTED)))
    else:
        brain.fit(counter, loader, DataLoader(Points(4), 2))
    weights = [round(float(value.double().sum()), 9) for value in model["model"].parameters()]
    print(f"DONE {rank} {brain.optimizer_step} {weights}", flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
