"""Memory of each of two processes, and time per step: DDP, and FSDP2 whole and in parts.

Two processes on the CPU (gloo) train a stack of linear layers with Adam; each strategy in processes
of its own. With 200 million parameters DDP takes about 4 GB in each process. Nothing is left on the
disk. Run on a machine that does nothing else::

    python benchmarks/sharded_memory.py [--millions 200] [--steps 4] [--processes 2]

"training" is the highest resident size between the second step and the end, less what the process
has before there is a model; "peak" is that of the whole run: each process makes the whole model
before it keeps its part. "parameters" is what a process has of them, "expected" what parameters,
gradients and Adam's two moments take, without what is gathered for a layer and what is sent.

The processes run with MALLOC_MMAP_THRESHOLD_ set: else the C library keeps the memory of freed
tensors for itself, and what is gathered and freed again counts as if it were still there.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
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
STRATEGIES = ("ddp", "fsdp2, whole", "fsdp2, by layer")


def strategy(name: str) -> Any:
    """Return what ``trainer.strategy`` is given."""
    if name == "ddp":
        return "ddp"
    from brain_lightning import FSDP2

    return FSDP2(wrap=["Linear"]) if name == "fsdp2, by layer" else FSDP2()


def resident(key: str) -> float:
    """Return this process's resident size in GB: VmRSS now, VmHWM the highest since the reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024 / 1e9
    raise RuntimeError(f"/proc/self/status has no {key}")


def forget_highest() -> None:
    """Let VmHWM begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def recipe() -> Any:
    from brain_lightning import Brain

    class Recipe(Brain):
        def on_stage_start(self, stage: Any, epoch: Any = None) -> None:
            self.times: list[float] = []

        def compute_forward(self, batch: Any, stage: Any) -> Any:
            return self.modules.model(batch)

        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
            return predictions.square().mean()

        def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
            if self.step == 2:  # the first step makes the optimizer's state
                forget_highest()
            self.begin = time.perf_counter()

        def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Any, should_step: bool) -> None:
            self.times.append(time.perf_counter() - self.begin)

    return Recipe


def measure(name: str, millions: float, steps: int) -> dict[str, float]:
    """Train in this process, one of several, and return what was measured."""
    import brain_lightning as sb

    sb.ddp_init_group({"distributed_backend": "gloo"})
    layers = max(1, round(millions * 1e6 / WIDTH / (WIDTH + 1)))
    make = recipe()
    before = resident("VmRSS")
    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(layers)))
    brain = make(
        {"model": model},
        lambda parameters: torch.optim.Adam(parameters, 1e-4),
        run_opts={"device": "cpu", "distributed_backend": "gloo", "noprogressbar": True},
        trainer={"strategy": strategy(name)},
    )
    batches: Any = [torch.ones(4, WIDTH)] * (steps + 1)
    brain.fit(range(1), torch.utils.data.DataLoader(batches, batch_size=None))
    own = [getattr(each, "to_local", lambda each=each: each)() for each in model.parameters()]
    return {
        "parameters": sum(each.numel() for each in own) / 1e6,
        "training": resident("VmHWM") - before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "step": statistics.median(brain.times[1:]),
    }


def in_processes(name: str, options: argparse.Namespace) -> list[dict[str, float]]:
    """Measure a strategy and return what each process found."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc_per_node={options.processes}", __file__, "--child", name]
        command += ["--millions", str(options.millions), "--steps", str(options.steps)]
        command += ["--folder", folder]
        environment = {
            "OMP_NUM_THREADS": "1",
            "MALLOC_MMAP_THRESHOLD_": "1000000",
            **os.environ,
        }
        subprocess.run(command, check=True, env=environment, timeout=1200)
        files = sorted(Path(folder).iterdir())
        return [json.loads(file.read_text()) for file in files]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, default=200.0, help="parameters, in millions")
    parser.add_argument("--steps", type=int, default=4, help="steps to measure")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if options.child:
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        found = measure(options.child, options.millions, options.steps)
        rank = torch.distributed.get_rank()
        (Path(options.folder) / f"{rank}.json").write_text(json.dumps(found))
        torch.distributed.destroy_process_group()
        return
    print(f"{options.millions:.0f} million parameters, {options.processes} processes, Adam, fp32")
    print("strategy         parameters    expected   training       peak    s/step")
    for name in STRATEGIES:
        ranks = in_processes(name, options)
        worst = {key: max(rank[key] for rank in ranks) for key in ranks[0]}
        expected = worst["parameters"] * 16 / 1e3
        print(
            f"{name:<16} {worst['parameters']:8.1f} M {expected:8.2f} GB"
            f" {worst['training']:7.2f} GB {worst['peak']:7.2f} GB {worst['step']:9.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
