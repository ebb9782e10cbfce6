"""Which process is this, who runs what, and how processes wait for one another.

Importing this module asks nothing of the environment and starts nothing.
"""

from __future__ import annotations

import functools
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import torch

from brain_lightning.ground.errors import MainProcessError
from brain_lightning.ground.launch_detection import detect_launch, is_slurm_read

P = ParamSpec("P")
T = TypeVar("T")

# In this order: SLURM sets SLURM_PROCID for a script that it merely started, too.
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
LOCAL_RANK_VARIABLES = ("LOCAL_RANK",)

# How many sections that one process alone runs are open, one inside the other.
_open_alone_sections = 0

# Called before a process waits for the others.
_before_waiting: list[Callable[[], None]] = []


@dataclass(frozen=True)
class _Failure:
    """What the main process sends in place of a result when its function raised."""

    message: str


def get_rank() -> int | None:
    """Return the rank of this process among all, or None when nothing tells it.

    An initialized process group knows best; before there is one, the environment is read.
    """
    if is_distributed_initialized():
        return torch.distributed.get_rank()
    if "RANK" not in os.environ:
        launch = detect_launch()
        if launch is not None:
            return launch.rank
    variables = [name for name in RANK_VARIABLES if is_slurm_read() or not name.startswith("SLURM")]
    return _first_integer(variables)


def get_local_rank() -> int | None:
    """Return the rank of this process on its own machine, or None when nothing tells it."""
    local_rank = _first_integer(LOCAL_RANK_VARIABLES)
    if local_rank is None and "RANK" not in os.environ:
        launch = detect_launch()
        return None if launch is None else launch.local_rank
    return local_rank


def get_local_world_size() -> int | None:
    """Return how many processes are on this machine, or None when nothing tells it."""
    launch = detect_launch()
    return None if launch is None else launch.local_world_size


def get_node_rank() -> int:
    """Return the number of this machine, 0 when nothing tells it."""
    launch = detect_launch()
    return 0 if launch is None else launch.node_rank


def _first_integer(variables: Sequence[str]) -> int | None:
    for variable in variables:
        text = os.environ.get(variable)
        if text is None:
            continue
        try:
            return int(text)
        except ValueError:
            raise ValueError(
                f"The environment variable {variable} is {text!r}; the rank of a process is an "
                "integer. Unset it, or start the script with torchrun."
            ) from None
    return None


def rank_prefixed_message(message: str) -> str:
    """Return the message with the rank of this process before it, when the rank is known."""
    rank = get_rank()
    return message if rank is None else f"[rank: {rank}] {message}"


def is_distributed_initialized() -> bool:
    """Tell whether this process belongs to an initialized process group."""
    # A torch built without distributed support has no is_initialized.
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def if_main_process() -> bool:
    """Tell whether this is the main process: rank 0, or the only one."""
    return not is_distributed_initialized() or get_rank() == 0


def is_local_rank_zero() -> bool:
    """Tell whether this is the first process of its machine, or the only one."""
    if not is_distributed_initialized():
        return True
    local_rank = get_local_rank()
    # A group made without a launcher sets no local rank: then one machine is assumed.
    return (get_rank() if local_rank is None else local_rank) == 0


def infer_device() -> str:
    """Return the device that this process is probably meant for, as ``cuda:1`` or ``cpu``."""
    accelerator = _accelerator_type()
    if accelerator is None:
        return "cpu"
    local_rank = get_local_rank()
    return accelerator if local_rank is None else f"{accelerator}:{local_rank}"


def _accelerator_type() -> str | None:
    if not hasattr(torch, "accelerator"):  # torch < 2.6
        return "cuda" if torch.cuda.is_available() else None
    if not torch.accelerator.is_available():
        return None
    return str(torch.accelerator.current_accelerator())


@contextmanager
def alone() -> Iterator[None]:
    """Open a section that not every process runs: nothing in it waits for other processes."""
    global _open_alone_sections
    _open_alone_sections += 1
    theirs = _speechbrains_distributed()
    if theirs is not None:
        theirs.MAIN_PROC_ONLY += 1
    try:
        yield
    finally:
        _open_alone_sections -= 1
        if theirs is not None:
            theirs.MAIN_PROC_ONLY -= 1


def ddp_prevent_block() -> bool:
    """Tell whether waiting for other processes must be left out: they would never come."""
    if not is_distributed_initialized() or _open_alone_sections > 0:
        return True
    return bool(getattr(_speechbrains_distributed(), "MAIN_PROC_ONLY", 0))


def _speechbrains_distributed() -> Any:
    """Return SpeechBrain's module on ranks where a recipe uses both libraries, or None.

    It counts such sections in a global variable. A function of one library that is run by the main
    process alone may be run by the other's ``run_on_main``, and must not wait then.
    """
    module = sys.modules.get("speechbrain.utils.distributed")
    return module if hasattr(module, "MAIN_PROC_ONLY") else None


@contextmanager
def called_before_waiting(function: Callable[[], None]) -> Iterator[None]:
    """Have ``function`` called within the block before this process waits for all others.

    So that it can see to what they need of it meanwhile; every process opens the block.
    """
    _before_waiting.append(function)
    try:
        yield
    finally:
        _before_waiting.remove(function)


def about_to_wait() -> None:
    """Call what wants to be called before this process waits for all others."""
    if _before_waiting:
        _before_waiting[-1]()


def main_process_only(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function run on the main process only; every process gets its result.

    When it raises there, or its result cannot be pickled, the error goes on as it is, and the other
    processes raise ``MainProcessError`` rather than wait for a result that never comes.
    """

    @functools.wraps(function)
    def on_main_process(*args: P.args, **kwargs: P.kwargs) -> T:
        outcome: Any = None
        try:
            with alone():
                if if_main_process():
                    outcome = function(*args, **kwargs)
        except (Exception, SystemExit) as error:
            ddp_broadcast(_Failure(f"{type(error).__name__}: {error}"))
            raise
        outcome = _broadcast_outcome(outcome)
        if isinstance(outcome, _Failure):
            name = getattr(function, "__qualname__", repr(function))
            raise MainProcessError(f"{name} failed on the main process: {outcome.message}")
        result: T = outcome
        return result

    return on_main_process


def _broadcast_outcome(outcome: Any) -> Any:
    try:
        return ddp_broadcast(outcome)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        if if_main_process():  # torch pickles before it sends anything
            ddp_broadcast(_Failure(f"its result cannot be sent to the others: {error}"))
        raise


def once_per_node(function: Callable[P, T]) -> Callable[P, T | None]:
    """Let a function run on the first process of each machine; the others get None.

    Nothing is sent between processes and none of them waits.
    """

    @functools.wraps(function)
    def on_first_of_node(*args: P.args, **kwargs: P.kwargs) -> T | None:
        with alone():
            return function(*args, **kwargs) if is_local_rank_zero() else None

    return on_first_of_node


def run_on_main(
    func: Callable[..., T],
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    post_func: Callable[..., Any] | None = None,
    post_args: Sequence[Any] | None = None,
    post_kwargs: Mapping[str, Any] | None = None,
    run_post_on_main: bool = False,
) -> T:
    """Run a function on the main process while the others wait, then maybe a second one.

    Args:
        func, args, kwargs: what the main process runs.
        post_func, post_args, post_kwargs: what the other processes run afterwards, to load what
            ``func`` produced, say.
        run_post_on_main: let the main process run ``post_func`` as well; nobody waits after it
            then.

    Returns:
        What ``func`` returned, on every process.
    """
    result = main_process_only(func)(*(args or ()), **(kwargs or {}))
    ddp_barrier()
    if post_func is None:
        return result
    if run_post_on_main or not if_main_process():
        post_func(*(post_args or ()), **(post_kwargs or {}))
    if not run_post_on_main:
        ddp_barrier()
    return result


def run_once_per_node(
    func: Callable[..., T],
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    post_func: Callable[..., Any] | None = None,
    post_args: Sequence[Any] | None = None,
    post_kwargs: Mapping[str, Any] | None = None,
    run_post_on_all: bool = False,
) -> Any:
    """Run a function once on each machine while the others wait, then maybe a second one.

    Args:
        func, args, kwargs: what the first process of each machine runs.
        post_func, post_args, post_kwargs: what the other processes run afterwards.
        run_post_on_all: let the first processes run ``post_func`` as well; nobody waits after it
            then.

    Returns:
        What ``post_func`` returned where it ran, else what ``func`` returned where that ran, else
        None.
    """
    result: Any = once_per_node(func)(*(args or ()), **(kwargs or {}))
    ddp_barrier()
    if post_func is None:
        return result
    if run_post_on_all or not is_local_rank_zero():
        result = post_func(*(post_args or ()), **(post_kwargs or {}))
    if not run_post_on_all:
        ddp_barrier()
    return result


def ddp_barrier() -> None:
    """Wait until every process has come here; alone, go on at once."""
    if ddp_prevent_block():
        return
    about_to_wait()
    if torch.distributed.get_backend() == torch.distributed.Backend.NCCL:
        torch.distributed.barrier(device_ids=[torch.cuda.current_device()])
    else:
        torch.distributed.barrier()


def ddp_broadcast(communication_object: T, src: int = 0) -> T:
    """Return the object that process ``src`` gave, on every process.

    Args:
        communication_object: what to send; it must be picklable. Other processes' objects are
            dropped.
        src: the rank of the process that sends.
    """
    if ddp_prevent_block():
        return communication_object
    about_to_wait()
    box = [communication_object]
    torch.distributed.broadcast_object_list(box, src=src)
    return box[0]


def ddp_all_reduce(
    communication_object: torch.Tensor, reduce_op: torch.distributed.ReduceOp.RedOpType
) -> torch.Tensor:
    """Reduce a tensor over all processes, in place, and return it.

    Args:
        communication_object: a tensor of any shape, equal in shape and type on every process.
        reduce_op: for instance ``torch.distributed.ReduceOp.SUM``.
    """
    if not ddp_prevent_block():
        about_to_wait()
        torch.distributed.all_reduce(communication_object, op=reduce_op)
    return communication_object
