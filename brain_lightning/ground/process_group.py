"""Creating the process group that a launcher prepared."""

from __future__ import annotations

import datetime
import os
from typing import Any, Protocol

import torch

from brain_lightning.ground.errors import OptionError
from brain_lightning.ground.launch_detection import Launch, detect_launch, read_slurm
from brain_lightning.ground.ranks import (
    get_local_rank,
    get_rank,
    is_distributed_initialized,
)

BACKENDS = ("nccl", "gloo", "mpi")
TIMEOUT = datetime.timedelta(hours=2)
TIMEOUT_VARIABLE = "BRAIN_LIGHTNING_TIMEOUT"
"""Seconds that a process waits for the others before it gives up."""


class Options(Protocol):
    """Run options, or a plain dict of them."""

    def __getitem__(self, key: str, /) -> Any:
        """Return the value of an option."""
        ...


def ddp_init_group(run_opts: Options) -> None:
    """Create the process group when a launcher started this process; otherwise do nothing.

    Args:
        run_opts: run options, of which ``distributed_backend`` and ``no_slurm_detection`` are read.

    Without torchrun the launch is looked for in the variables of SLURM, Open MPI and JSM, and what
    torchrun would have set is set. How long processes wait for one another is two hours, or the
    seconds in the environment variable ``BRAIN_LIGHTNING_TIMEOUT``.

    Raises:
        ValueError: the backend is unknown or not in this torch, or when this machine has fewer GPUs
            than processes.
    """
    if is_distributed_initialized():
        return  # a group that exists is used; a second one cannot be made
    if hasattr(run_opts, "get") and run_opts.get("no_slurm_detection"):
        read_slurm(False)
    _take_over(detect_launch())
    rank, local_rank = get_rank(), get_local_rank()
    if rank is None or local_rank is None:
        return
    backend = run_opts["distributed_backend"]
    _check_backend(backend)
    _check_device_count(backend, local_rank)
    if backend == "nccl":
        torch.cuda.set_device(torch.device(f"cuda:{local_rank}"))
    torch.distributed.init_process_group(backend=backend, rank=rank, timeout=get_timeout())


def get_timeout() -> datetime.timedelta:
    """Return how long a process waits for the others, from the environment or two hours.

    Raises:
        ValueError: the variable is no positive number of seconds.
    """
    text = os.environ.get(TIMEOUT_VARIABLE)
    if text is None:
        return TIMEOUT
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e8:
        raise OptionError(
            f"The environment variable {TIMEOUT_VARIABLE} is {text!r}, but must be a number of "
            "seconds, more than 0: how long a process waits for the others."
        )
    return datetime.timedelta(seconds=seconds)


def _take_over(launch: Launch | None) -> None:
    """Set what torchrun would have set, where another launcher was at work.

    It is what torch, SpeechBrain and recipes read.
    """
    if launch is None or ("RANK" in os.environ and "LOCAL_RANK" in os.environ):
        return
    for name, value in launch.variables().items():
        os.environ.setdefault(name, value)


def _check_backend(backend: str) -> None:
    if backend not in BACKENDS:
        raise OptionError(
            f"distributed_backend is {backend!r}; it can be one of {', '.join(BACKENDS)}. "
            "Use nccl on GPUs and gloo on the CPU."
        )
    if not torch.distributed.is_available() or not _is_backend_available(backend):
        raise OptionError(
            f"distributed_backend is {backend!r}, which this installation of torch does not "
            "have. Choose another one, such as --distributed_backend=gloo."
        )


def _is_backend_available(backend: str) -> bool:
    available = {
        "nccl": torch.distributed.is_nccl_available,
        "gloo": torch.distributed.is_gloo_available,
        "mpi": torch.distributed.is_mpi_available,
    }
    return available[backend]()


def _check_device_count(backend: str, local_rank: int) -> None:
    # SpeechBrain asks for a GPU under mpi too.
    if backend == "gloo" or local_rank < torch.cuda.device_count():
        return
    raise OptionError(
        f"Process {local_rank} of this machine has no GPU of its own: with "
        f"distributed_backend {backend!r} each process needs one, and there are "
        f"{torch.cuda.device_count()}. Start fewer processes (torchrun --nproc_per_node), "
        "or use --distributed_backend=gloo on the CPU."
    )
