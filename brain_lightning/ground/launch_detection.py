"""Which launcher started this process, and what it says about its place among the others.

Read from the environment only: nothing is started, and no process group is needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from brain_lightning.ground.errors import OptionError

Environment = Mapping[str, str]

VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "NODE_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_NODEID",
    "SLURM_NTASKS",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_STEP_TASKS_PER_NODE",
    "SLURM_TASKS_PER_NODE",
    "SLURM_STEP_NODELIST",
    "SLURM_JOB_NODELIST",
    "SLURM_NODELIST",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "JSM_NAMESPACE_RANK",
    "JSM_NAMESPACE_LOCAL_RANK",
    "JSM_NAMESPACE_SIZE",
)
"""What is read of the environment; a test sees to it that nothing else is."""


@dataclass(frozen=True)
class Launch:
    """The place of a process among those that were started with it."""

    source: str
    """The launcher, as a user would name it."""
    rank: int
    local_rank: int
    """The rank on its own machine."""
    world_size: int | None
    """How many processes there are; None when the launcher does not say."""
    local_world_size: int | None
    """How many of them are on this machine; None when it is not known."""
    node_rank: int
    """The number of the machine."""
    main_address: str | None = None
    main_port: int | None = None

    def variables(self) -> dict[str, str]:
        """Return what torchrun would have set, as far as it is known."""
        values = {
            "RANK": self.rank,
            "LOCAL_RANK": self.local_rank,
            "WORLD_SIZE": self.world_size,
            "LOCAL_WORLD_SIZE": self.local_world_size,
            "GROUP_RANK": self.node_rank,
            "MASTER_ADDR": self.main_address,
            "MASTER_PORT": self.main_port,
        }
        return {name: str(value) for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        """Say it in one line, for people."""
        size = "an unknown number" if self.world_size is None else str(self.world_size)
        where = "" if self.main_address is None else f", main process at {self.main_address}"
        port = "" if self.main_port is None else f":{self.main_port}"
        return (
            f"{self.source}: rank {self.rank} of {size}, local rank {self.local_rank} on machine "
            f"{self.node_rank}{where}{port}"
        )


_slurm_is_read = True


def read_slurm(yes: bool) -> None:
    """Say whether ranks may be taken from SLURM (the run option ``no_slurm_detection``)."""
    global _slurm_is_read
    _slurm_is_read = yes


def is_slurm_read() -> bool:
    """Tell whether ranks may be taken from SLURM."""
    return _slurm_is_read


def detect_launch(environment: Environment | None = None) -> Launch | None:
    """Return the place of this process, or None when no launcher started it.

    In this order: torchrun, also inside of srun; srun with one task for each process; Open MPI and
    JSM; and last a local rank alone, as Lightning's own launcher sets it.

    Args:
        environment: the variables to read; if not given, those of this process.

    Raises:
        ValueError: a variable is no number, or a local rank alone cannot tell the rank.
    """
    environment = os.environ if environment is None else environment
    for detect in (_torchrun, _slurm, _open_mpi, _jsm, _local_rank_alone):
        launch = detect(environment)
        if launch is not None:
            return launch
    return None


def _torchrun(environment: Environment) -> Launch | None:
    if "RANK" not in environment or "LOCAL_RANK" not in environment:
        return None
    rank, local_rank = _number(environment, "RANK"), _number(environment, "LOCAL_RANK")
    assert rank is not None
    assert local_rank is not None
    local_size = _number(environment, "LOCAL_WORLD_SIZE")
    node_rank = _first_number(environment, "GROUP_RANK", "NODE_RANK")
    if node_rank is None:
        node_rank = rank // local_size if local_size else 0
    # TORCHELASTIC_RUN_ID is the mark that torchrun leaves.
    source = "torchrun" if "TORCHELASTIC_RUN_ID" in environment else "RANK and LOCAL_RANK"
    return Launch(
        source,
        rank,
        local_rank,
        _number(environment, "WORLD_SIZE"),
        local_size,
        node_rank,
        environment.get("MASTER_ADDR"),
        _number(environment, "MASTER_PORT"),
    )


def _slurm(environment: Environment) -> Launch | None:
    """One task of srun.

    Only srun sets the number of tasks of a step. A batch script has SLURM_PROCID, SLURM_LOCALID and
    SLURM_NTASKS too, but is alone: taken for a task it would wait for others for ever.
    """
    if not _slurm_is_read:
        return None
    size = _number(environment, "SLURM_STEP_NUM_TASKS")
    if size is None and "SLURM_STEP_ID" in environment:
        size = _number(environment, "SLURM_NTASKS")
    rank, local_rank = _number(environment, "SLURM_PROCID"), _number(environment, "SLURM_LOCALID")
    if size is None or size < 2 or rank is None or local_rank is None:
        return None
    nodes = _first_text(environment, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
    node_rank = _number(environment, "SLURM_NODEID") or 0
    return Launch(
        "SLURM",
        rank,
        local_rank,
        size,
        _slurm_local_size(environment, node_rank),
        node_rank,
        environment.get("MASTER_ADDR") or first_host(nodes or "127.0.0.1"),
        _number(environment, "MASTER_PORT") or _slurm_port(environment),
    )


def _slurm_local_size(environment: Environment, node_rank: int) -> int | None:
    """Read "4(x2),3": four tasks on the first two machines, three on the next."""
    text = _first_text(environment, "SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")
    counts: list[int] = []
    for size, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text or ""):
        counts += [int(size)] * int(times or 1)
    return counts[node_rank] if node_rank < len(counts) else None


def first_host(nodes: str) -> str:
    """Return the first of a SLURM list of hosts: ``gpu[07-09,12],login`` gives ``gpu07``."""
    # Commas inside of brackets do not separate hosts.
    first = re.split(r",(?![^\[]*\])", nodes)[0]
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first)


def _slurm_port(environment: Environment) -> int:
    """A port that all tasks of a step derive, another one for another job or step."""
    job = _number(environment, "SLURM_JOB_ID") or 0
    step = _number(environment, "SLURM_STEP_ID") or 0
    return 15000 + (job * 16 + step) % 16384


def _open_mpi(environment: Environment) -> Launch | None:
    names = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE")
    local_size = _number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE")
    return _from_three("Open MPI", environment, names, local_size)


def _jsm(environment: Environment) -> Launch | None:
    names = ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE")
    return _from_three("JSM", environment, names, None)


def _from_three(
    source: str, environment: Environment, names: tuple[str, str, str], local_size: int | None
) -> Launch | None:
    rank, local_rank, size = (_number(environment, name) for name in names)
    if rank is None or local_rank is None or size is None or size < 2:
        return None
    node_rank = rank // local_size if local_size else 0
    main_address = environment.get("MASTER_ADDR")
    if main_address is None and local_size == size:
        main_address = "127.0.0.1"
    port = _number(environment, "MASTER_PORT") or 12910
    return Launch(source, rank, local_rank, size, local_size, node_rank, main_address, port)


def _local_rank_alone(environment: Environment) -> Launch | None:
    """LOCAL_RANK without RANK: on another machine than the first it is not the rank."""
    local_rank = _number(environment, "LOCAL_RANK")
    if local_rank is None:
        return None
    node_rank = _first_number(environment, "NODE_RANK", "GROUP_RANK") or 0
    local_size = _number(environment, "LOCAL_WORLD_SIZE")
    if node_rank and not local_size:
        raise OptionError(
            f"This process has LOCAL_RANK={local_rank} on machine {node_rank}, but no RANK: its "
            "rank among all processes cannot be told, and taking the local one would make a second "
            "main process. Start the recipe with torchrun, or set RANK or LOCAL_WORLD_SIZE."
        )
    return Launch(
        "LOCAL_RANK alone",
        node_rank * (local_size or 0) + local_rank,
        local_rank,
        _number(environment, "WORLD_SIZE"),
        local_size,
        node_rank,
        environment.get("MASTER_ADDR"),
        _number(environment, "MASTER_PORT"),
    )


def _first_text(environment: Environment, *names: str) -> str | None:
    return next((environment[name] for name in names if environment.get(name)), None)


def _first_number(environment: Environment, *names: str) -> int | None:
    numbers = (_number(environment, name) for name in names)
    return next((number for number in numbers if number is not None), None)


def _number(environment: Environment, name: str) -> int | None:
    text = environment.get(name)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise OptionError(
            f"The environment variable {name} is {text!r}, but must be an integer. Unset it, or "
            "start the script with torchrun."
        ) from None
