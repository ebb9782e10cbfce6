"""Strategies that leave modules and optimizers where the Brain put them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from lightning.pytorch.strategies import ParallelStrategy, SingleDeviceStrategy
from lightning_utilities.core.rank_zero import rank_zero_only
from torch.distributed import ReduceOp
from torch.optim import Optimizer
from typing_extensions import override

from brain_lightning.engine.trainer.process_group_environment import (
    ProcessGroupEnvironment,
    environment_of_group,
)
from brain_lightning.ground.ranks import ddp_barrier, ddp_broadcast, ddp_prevent_block
from brain_lightning.parts.checkpoints.sharded_states import (
    is_sharded,
    loadable_state,
    whole_state,
)

T = TypeVar("T")


class InPlaceSingleDevice(SingleDeviceStrategy):
    """One device; nothing is moved, neither at start nor at the end.

    Brain moves its modules when it is built. Lightning's teardown takes modules and optimizer
    states to the CPU, but recipes go on using them on ``brain.device`` after ``fit()``, and a
    ``fit()`` inside of ``fit()`` must not take them away from the outer one.
    """

    @override
    def model_to_device(self) -> None:
        """Brain's constructor did it."""

    @override
    def teardown(self) -> None:
        """Release the plugins, and nothing else (the module ignores being moved to the CPU)."""
        optimizers, self.optimizers = self.optimizers, []
        super().teardown()
        self.optimizers = optimizers


class InPlaceProcessGroup(ParallelStrategy):
    """One process of the group that exists; nothing is moved and nothing is wrapped.

    Brain wraps each entry of its ``modules`` on its own. The group is neither made nor destroyed
    here: it belongs to the recipe, which goes on with it after ``fit()``.
    """

    def __init__(
        self, device: torch.device, environment: ProcessGroupEnvironment | None = None
    ) -> None:
        """Run on ``device``, among the processes of the group."""
        group = environment or environment_of_group()
        super().__init__(cluster_environment=group)
        self._root_device = device
        # As many as there are processes here: Lightning counts devices by this list.
        self.parallel_devices = _devices_like(device, group.local_world_size())
        self.num_nodes = group.num_nodes()

    is_distributed = True
    """Asked for by Lightning of strategies that are not its own."""

    @property
    @override
    def root_device(self) -> torch.device:
        """This process's device."""
        return self._root_device

    def set_world_ranks(self) -> None:
        """Tell everything in Lightning that acts on rank zero only; the Trainer calls this."""
        rank_zero_only.rank = self.global_rank  # type: ignore[attr-defined]

    @override
    def model_to_device(self) -> None:
        """Brain's constructor did it."""

    @override
    def barrier(self, name: str | None = None) -> None:
        """Wait for all processes."""
        ddp_barrier()

    @override
    def broadcast(self, obj: T, src: int = 0) -> T:
        """Return the object of process ``src``."""
        return ddp_broadcast(obj, src)

    @override
    def reduce(
        self,
        tensor: torch.Tensor | Any,
        group: Any | None = None,
        reduce_op: ReduceOp | str | None = "mean",
    ) -> torch.Tensor | Any:
        """Return the mean, sum or other reduction of a tensor over all processes.

        As in Lightning's own strategies the result is written into ``tensor`` too, and what is no
        tensor is returned as it is.
        """
        if not isinstance(tensor, torch.Tensor) or ddp_prevent_block():
            return tensor
        name = reduce_op.lower() if isinstance(reduce_op, str) else reduce_op
        is_mean = name in (None, "mean", "avg", ReduceOp.AVG)  # gloo has no average
        operation = ReduceOp.SUM if is_mean else name
        if isinstance(operation, str):
            operation = getattr(ReduceOp, operation.upper())
        result = tensor.to(self.root_device)
        torch.distributed.all_reduce(result, op=operation, group=group)
        if is_mean:
            result = result / torch.distributed.get_world_size(group)
        return tensor.copy_(result)

    @override
    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the state with whole tensors; where it is sharded, on the main process only."""
        assert self.lightning_module is not None
        state: dict[str, Any] = self.lightning_module.state_dict()
        if is_sharded(self.lightning_module):
            state = whole_state(state)
        return state

    @override
    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return an optimizer's state, as above."""
        state = super().optimizer_state(optimizer)
        return dict(whole_state(state)) if is_sharded(optimizer) else state

    @override
    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load what ``optimizer_state`` returned for each optimizer."""
        states = checkpoint["optimizer_states"]
        sharded = [
            loadable_state(state, optimizer)
            for optimizer, state in zip(self.optimizers, states, strict=False)
        ]
        super().load_optimizer_state_dict({**checkpoint, "optimizer_states": sharded})

    @override
    def teardown(self) -> None:
        """Release the plugins, and nothing else (the module ignores being moved to the CPU)."""
        optimizers, self.optimizers = self.optimizers, []
        super().teardown()
        self.optimizers = optimizers


def _devices_like(device: torch.device, count: int) -> list[torch.device]:
    if device.type == "cpu":
        return [device] * count
    devices = [torch.device(device.type, index) for index in range(count)]
    # A launcher may show each process one device only, which is then number 0 for all of them.
    return devices if device in devices else [device] * count
