"""Creating the process group that a launcher prepared."""

from __future__ import annotations

import datetime
from typing import Any, Protocol

import torch

from brain_lightning.ground.errors import OptionError
from brain_lightning.ground.ranks import (
    get_local_rank,
    get_rank,
    is_distributed_initialized,
)

BACKENDS = ("nccl", "gloo", "mpi")
TIMEOUT = datetime.timedelta(hours=2)


class Options(Protocol):
    """Run options, or a plain dict of them."""

    def __getitem__(self, key: str, /) -> Any:
        """Return the value of an option."""
        ...


def ddp_init_group(run_opts: Options) -> None:
    """Create the process group when a launcher started this process; otherwise do nothing.

    Arguments
    ---------
    run_opts:
        Run options, of which ``distributed_backend`` is read.

    Raises
    ------
    ValueError
        When the backend is unknown or not in this torch, or when this machine has fewer GPUs
        than processes.
    """
    if is_distributed_initialized():
        return  # a group that exists is used; a second one cannot be made
    rank, local_rank = get_rank(), get_local_rank()
    if rank is None or local_rank is None:
        return
    backend = run_opts["distributed_backend"]
    _check_backend(backend)
    _check_device_count(backend, local_rank)
    if backend == "nccl":
        torch.cuda.set_device(torch.device(f"cuda:{local_rank}"))
    torch.distributed.init_process_group(backend=backend, rank=rank, timeout=TIMEOUT)


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
