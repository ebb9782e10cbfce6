"""How long training stands still for an interval checkpoint: SpeechBrain, brain_lightning.

A module of 100 million parameters with Adam, which is about 1.2 GB of state. Each library trains in
a process of its own and saves a few times; what is written is deleted again. Ours copies the
parameters while training stands still, and Adam's moments beside the next batch. Run on a machine
that does nothing else, on the kind of disk that checkpoints go to::

    python benchmarks/interval_checkpoint.py [--millions 100] [--saves 4] [--folder FOLDER]

"stands still" is the time of the call that saves, between two batches, and behind it how much of
that the processor worked for it: on a loaded machine or a slow disk the rest is waiting. The memory
for ours is got half-way to the first save, beside training. "steps beside" is how long a
training step takes while a checkpoint is being written beside, as a multiple of one without. With
``--accumulate`` the save falls between two batches of one optimizer step, so that gradients are
saved too (SpeechBrain drops them).

The memory is the process's highest resident size, before the first save and at the end.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

WIDTH = 2048
STEPS_BETWEEN = 12  # an even number; few enough to be quick, enough to get the memory meanwhile
LIBRARIES = ("SpeechBrain", "brain_lightning")


def recipe(base: Any) -> Any:
    class Recipe(base):  # type: ignore[misc]
        """Measures its saves, and its steps with and without a checkpoint being written."""

        def on_stage_start(self, stage: Any, epoch: Any = None) -> None:
            self.saves: list[tuple[float, float]] = []
            self.written: list[float] = []
            self.undisturbed: list[float] = []
            self.disturbed: list[float] = []
            self.memory_before = 0

        def compute_forward(self, batch: Any, stage: Any) -> Any:
            return self.modules.model(batch)

        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
            return predictions.square().mean()

        def fit_batch(self, batch: Any) -> Any:
            since_save = (self.step - 1) % self.ckpt_interval_steps
            if since_save == self.ckpt_interval_steps // 2 and self.saves:
                begin = time.perf_counter()
                self.checkpointer.list_checkpoints()  # ours waits for its writer here
                self.written.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            loss = super().fit_batch(batch)
            duration = time.perf_counter() - begin
            if self.saves and since_save < self.ckpt_interval_steps // 2:
                self.disturbed.append(duration)
            elif self.step > 2:  # the first ones make the optimizer's state
                self.undisturbed.append(duration)
            return loss

        def _save_intra_epoch_ckpt(self) -> None:
            self.memory_before = self.memory_before or peak_memory()
            begin, worked = time.perf_counter(), time.thread_time()
            super()._save_intra_epoch_ckpt()
            self.saves.append((time.perf_counter() - begin, time.thread_time() - worked))

    return Recipe


def peak_memory() -> int:
    """Return the highest resident size so far, in bytes."""
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(highest if sys.platform == "darwin" else highest * 1024)


def measure(library: str, folder: str, millions: float, saves: int, accumulate: bool) -> Any:
    """Train in this process and return what was measured."""
    if library == "SpeechBrain":
        from speechbrain import Brain
        from speechbrain.utils.checkpoints import Checkpointer
    else:
        from brain_lightning import Brain, Checkpointer
    layers = max(1, round(millions * 1e6 / WIDTH / (WIDTH + 1)))
    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(layers)))
    interval = STEPS_BETWEEN + 1 if accumulate else STEPS_BETWEEN
    brain = recipe(Brain)(
        {"model": model},
        lambda parameters: torch.optim.Adam(parameters, 1e-4),
        run_opts={
            "ckpt_interval_steps": interval,
            "ckpt_interval_minutes": 0,
            "noprogressbar": True,
            "grad_accumulation_factor": 2 if accumulate else 1,
        },
        checkpointer=Checkpointer(folder, {"model": model}),
    )
    batches: Any = [torch.ones(1, WIDTH)] * (interval * saves + interval)
    brain.fit(range(1), torch.utils.data.DataLoader(batches, batch_size=None))
    size = sum(path.stat().st_size for path in Path(folder).glob("*/*"))
    return {
        "saves": brain.saves[:saves],
        "undisturbed": statistics.median(brain.undisturbed),
        "disturbed": statistics.median(brain.disturbed),
        "memory_before": brain.memory_before,
        "memory": peak_memory(),
        "size": size,
    }


def in_child(library: str, options: argparse.Namespace) -> Any:
    """Measure a library in a process of its own, with a folder that is deleted again."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        command = [sys.executable, __file__, "--child", library, "--folder", folder]
        command += ["--millions", str(options.millions), "--saves", str(options.saves)]
        command += ["--accumulate"] if options.accumulate else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def require_space(options: argparse.Namespace) -> None:
    needed = options.millions * 1e6 * 12 * 3
    folder = options.folder or tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(f"{needed / 1e9:.1f} GB are needed in {folder}; {free / 1e9:.1f} are free")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, default=100.0, help="parameters, in millions")
    parser.add_argument("--saves", type=int, default=4, help="interval checkpoints to measure")
    parser.add_argument("--folder", help="where to write; the system's temporary folder")
    parser.add_argument("--accumulate", action="store_true", help="save in an unfinished step")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if options.child:
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        print(json.dumps(measure(options.child, *_measured(options))))
        return
    require_space(options)
    rows = {library: in_child(library, options) for library in LIBRARIES}
    size, memory = rows["brain_lightning"]["size"] / 1e9, (options.millions * 12e6) / 1e9
    print(f"checkpoint of {size:.2f} GB ({memory:.2f} GB of parameters and moments); seconds")
    print("library           first save       later saves      step  steps beside  highest memory")
    for library, row in rows.items():
        print(
            f"{library:<17} {pair(row['saves'][:1])}  {pair(row['saves'][1:])}"
            f" {row['undisturbed']:8.3f} {row['disturbed'] / row['undisturbed']:10.1f}x   "
            f"{row['memory'] / 1e9:6.2f} GB ({row['memory_before'] / 1e9:.2f} before saving)"
        )
    theirs, ours = (rows[library]["saves"] for library in LIBRARIES)
    for name, which in (("first", slice(0, 1)), ("later", slice(1, None))):
        wall, worked = (of(ours[which], i) / of(theirs[which], i) for i in (0, 1))
        print(f"{name} saves: {wall:.3f} of SpeechBrain's; of its processor time {worked:.3f}")


def of(saves: list[tuple[float, float]], index: int) -> float:
    """Return the median of one of the two times."""
    return statistics.median(save[index] for save in saves)


def pair(saves: list[tuple[float, float]]) -> str:
    """Show the two times."""
    return f"{of(saves, 0):7.3f} ({of(saves, 1):.3f})"


def _measured(options: argparse.Namespace) -> tuple[str, float, int, bool]:
    return options.folder, options.millions, options.saves, options.accumulate


if __name__ == "__main__":
    main()
