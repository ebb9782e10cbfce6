"""How fast two processes train one recipe: SpeechBrain and brain_lightning, both under torchrun.

Run with OMP_NUM_THREADS=1 on a machine with two cores that does nothing else::

    python benchmarks/two_processes.py [STEPS]

A transformer encoder of 3.2 million parameters on eight sequences of 100 frames, gloo, DDP. The two
libraries take turns, three times each; the fastest epoch counts. Nothing is written.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
import warnings
from typing import Any

import torch

LIBRARIES = ("speechbrain", "brain_lightning")
EPOCHS = 3


class Frames(torch.utils.data.Dataset[torch.Tensor]):
    """Random features of one utterance each."""

    def __init__(self, size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.features = torch.randn(64, 100, 80, generator=generator)
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.features[index % len(self.features)]


def encoder() -> torch.nn.Module:
    layer = torch.nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True, dropout=0.1)
    return torch.nn.Sequential(
        torch.nn.Linear(80, 256),
        torch.nn.TransformerEncoder(layer, 4, enable_nested_tensor=False),
        torch.nn.Linear(256, 40),
    )


def recipe(base: Any) -> Any:
    class Recipe(base):  # type: ignore[misc]
        seconds: tuple[float, ...] = ()

        def compute_forward(self, batch: Any, stage: Any) -> Any:
            return self.modules.model(batch)

        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
            return predictions.pow(2).mean()

        def on_stage_start(self, stage: Any, epoch: Any = None) -> None:
            self.begun = time.perf_counter()

        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            self.seconds += (time.perf_counter() - self.begun,)

    return Recipe


def work(library: str, steps: int) -> None:
    """Train as one of two processes; the first prints the seconds of its fastest epoch."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    if library == "speechbrain":
        import speechbrain as sb
        from speechbrain.utils.distributed import ddp_init_group
    else:
        import brain_lightning as sb
        from brain_lightning import ddp_init_group
    options = {"device": "cpu", "distributed_backend": "gloo", "noprogressbar": True}
    ddp_init_group(options)
    torch.manual_seed(0)
    brain = recipe(sb.Brain)(
        {"model": encoder()},
        lambda parameters: torch.optim.Adam(parameters),
        hparams={"sorting": "random"},  # SpeechBrain asks for some hparams here
        run_opts=options,
    )
    data = Frames(steps * 16)
    brain.fit(range(EPOCHS), data, train_loader_kwargs={"batch_size": 8})
    if torch.distributed.get_rank() == 0:
        print(f"SECONDS {min(brain.seconds)}")
    torch.distributed.destroy_process_group()


def seconds_of(library: str, steps: int) -> float:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, *launcher, __file__, "--work", library, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{library} failed:\n{done.stderr}")
    return float(done.stdout.rsplit("SECONDS ", 1)[1])


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    fastest = dict.fromkeys(LIBRARIES, float("inf"))
    for _ in range(3):
        for library in LIBRARIES:
            fastest[library] = min(fastest[library], seconds_of(library, steps))
    print(f"{'two processes':<20}{'ms per step':>12}{'sequences per second':>24}")
    for library, seconds in fastest.items():
        print(f"{library:<20}{seconds / steps * 1e3:>12.1f}{16 * steps / seconds:>24.1f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], int(sys.argv[3]))
    else:
        main()
