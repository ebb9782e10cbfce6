"""What is known of this process's place among others, in Lightning's terms."""

from __future__ import annotations

import os
import signal

import torch
from lightning.fabric.plugins import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from typing_extensions import override

from brain_lightning.ground.launch_detection import is_slurm_read
from brain_lightning.ground.ranks import get_local_rank, get_local_world_size, get_node_rank


class ProcessGroupEnvironment(ClusterEnvironment):
    """Ranks as the process group has them, however it was made.

    Lightning's own environments read the variables of one launcher each, and refuse settings of
    SLURM that are none of their business once a group exists.
    """

    @property
    @override
    def creates_processes_externally(self) -> bool:
        """They are all here."""
        return True

    @property
    @override
    def main_address(self) -> str:
        """Where the main process listens, as far as it is known."""
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    @override
    def main_port(self) -> int:
        """The main process's port; 0 when it is not known."""
        return int(os.environ.get("MASTER_PORT", "0"))

    @staticmethod
    @override
    def detect() -> bool:
        """Whether there is a process group."""
        return torch.distributed.is_available() and torch.distributed.is_initialized()

    @override
    def world_size(self) -> int:
        """The number of processes."""
        return torch.distributed.get_world_size()

    @override
    def set_world_size(self, size: int) -> None:
        """The group cannot be changed."""

    @override
    def global_rank(self) -> int:
        """The rank among all processes."""
        return torch.distributed.get_rank()

    @override
    def set_global_rank(self, rank: int) -> None:
        """The group cannot be changed."""

    @override
    def local_rank(self) -> int:
        """The rank on this machine; without a launcher's word, one machine is assumed."""
        local_rank = get_local_rank()
        return self.global_rank() if local_rank is None else local_rank

    @override
    def node_rank(self) -> int:
        """The number of this machine."""
        return get_node_rank()

    def local_world_size(self) -> int:
        """How many processes this machine has."""
        return get_local_world_size() or self.world_size()

    def num_nodes(self) -> int:
        """How many machines there are, if each has as many processes as this one."""
        return max(1, self.world_size() // self.local_world_size())


class SlurmGroupEnvironment(ProcessGroupEnvironment, SLURMEnvironment):
    """The same where ``srun`` has started the processes: SLURM's signals are heard."""

    def __init__(self) -> None:
        """Be queued again on SLURM's usual signal; its other settings say nothing of the group."""
        self.auto_requeue = True
        self.requeue_signal = signal.SIGUSR1


def environment_of_group() -> ProcessGroupEnvironment:
    """Return what stands for the process group that there is."""
    if is_slurm_read() and SLURMEnvironment.detect():
        return SlurmGroupEnvironment()
    return ProcessGroupEnvironment()


class SlurmAloneEnvironment(SLURMEnvironment):
    """One process in a job of SLURM's, where SLURM's signals are heard.

    Lightning's own takes every process in a job for one of the job's tasks, and refuses a job of
    several tasks. But a batch script and the shell of an ``salloc`` are one process, and so is what
    one task runs while the others wait.
    """

    def __init__(self) -> None:
        """Be queued again on SLURM's usual signal; the job's other settings say nothing of it."""
        self.auto_requeue = True
        self.requeue_signal = signal.SIGUSR1

    @override
    def world_size(self) -> int:
        """It is alone."""
        return 1

    @override
    def global_rank(self) -> int:
        """The first, and the last."""
        return 0

    @override
    def local_rank(self) -> int:
        """The first, and the last."""
        return 0

    @override
    def node_rank(self) -> int:
        """Its machine is the only one."""
        return 0


def environment_of_one_process() -> ClusterEnvironment:
    """Return what stands for a process that runs something by itself."""
    if is_slurm_read() and SLURMEnvironment.detect():
        return SlurmAloneEnvironment()
    return LightningEnvironment()
