"""States whose tensors are sharded over the processes: made whole to be saved, then divided.

A file has whole tensors, as if one process had saved it: it can be loaded by one process, by
another number of them, and by SpeechBrain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from brain_lightning.ground.ranks import if_main_process
from brain_lightning.ground.sharded_tensors import is_sharded_tensor
from brain_lightning.ground.torch_internals import give_versions

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_sharded(obj: object) -> bool:
    """Whether a module, or what an optimizer steps, has a part of each tensor in each process."""
    return any(map(is_sharded_tensor, _parameters_of(obj)))


def _parameters_of(obj: object) -> Iterable[torch.Tensor]:
    if isinstance(obj, torch.nn.Module):
        return obj.parameters()
    if isinstance(obj, torch.optim.Optimizer):
        return [each for group in obj.param_groups for each in group["params"]]
    return ()


# -- saving ------------------------------------------------------------------------------------


def whole_tensor(tensor: DTensor) -> torch.Tensor | None:
    """Return a sharded tensor as a whole one on the CPU, on the main process; None on the others.

    All processes must call it. Each has the whole for the moment of the exchange.
    """
    here = tensor.device_mesh.device_type
    detached: Any = tensor.detach()
    if detached.device.type != here:  # offloaded, while the processes exchange between GPUs
        detached = detached.to(here)
    whole: torch.Tensor = detached.full_tensor()
    if not if_main_process():
        return None
    # Where nothing had to be exchanged it is the tensor itself, which training goes on to change.
    return whole.cpu() if whole.device.type != "cpu" else whole.clone()


def whole_state(state: Any) -> Any:
    """Return a copy of a state on the CPU, with whole tensors in the place of sharded ones.

    All processes must call it, with the same keys in the same order. The main process gets the
    copy, the others the same containers without any tensor.
    """
    if is_sharded_tensor(state):
        return whole_tensor(state)
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True) if if_main_process() else None
    if isinstance(state, Mapping):
        return give_versions({key: whole_state(value) for key, value in state.items()}, state)
    if type(state) in (list, tuple):
        return type(state)(whole_state(value) for value in state)
    return state


# -- loading -----------------------------------------------------------------------------------


def shard_of(whole: torch.Tensor, like: DTensor) -> DTensor:
    """Return this process's part of a whole tensor; nothing is exchanged.

    Args:
        whole: of the shape that ``like`` has as a whole.
        like: says on which processes and devices the parts are.
    """
    mesh, placements = like.device_mesh, like.placements
    local = whole
    for dimension, placement in enumerate(placements):
        if placement.is_shard():
            shard: Any = placement
            chunks = local.chunk(mesh.size(dimension), dim=shard.dim)
            rank = mesh.get_local_rank(dimension)
            empty = local.narrow(shard.dim, 0, 0)
            local = chunks[rank] if rank < len(chunks) else empty
    local = local.to(like.to_local().device).clone()
    return type(like).from_local(
        local, mesh, placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def accept_whole_tensors(module: torch.nn.Module) -> None:
    """Let ``load_state_dict`` of a sharded module, and of what contains it, take whole tensors.

    Whoever calls it: a checkpointer, a pretrainer, or a recipe with averaged parameters.
    """
    for part in module.modules():
        if any(map(is_sharded_tensor, part.parameters(recurse=False))):
            register: Any = part.register_load_state_dict_pre_hook
            register(_shard_own_tensors)


def _shard_own_tensors(
    module: torch.nn.Module, state_dict: dict[str, Any], prefix: str, *others: object
) -> None:
    # The dictionary is load_state_dict's own copy.
    for name, parameter in module.named_parameters(recurse=False):
        if prefix + name in state_dict:
            state_dict[prefix + name] = shard_if_whole(state_dict[prefix + name], parameter)


def shard_if_whole(value: Any, parameter: torch.Tensor) -> Any:
    """Return this process's part of ``value`` if it is all of a sharded parameter, else itself."""
    if not is_sharded_tensor(parameter) or is_sharded_tensor(value):
        return value
    if not isinstance(value, torch.Tensor) or value.shape != parameter.shape:
        return value
    return shard_of(value, parameter)


def sharded_optimizer_state(
    state: Mapping[str, Any], optimizer: torch.optim.Optimizer
) -> Mapping[str, Any]:
    """Return an optimizer's state with parts of tensors where it steps parts of parameters."""
    if not is_sharded(optimizer) or "state" not in state:
        return state
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    indices = [index for group in state["param_groups"] for index in group["params"]]
    places = dict(zip(indices, parameters, strict=False))

    def sharded(index: Any, values: Any) -> Any:
        parameter = places.get(index)
        if parameter is None or not isinstance(values, Mapping):
            return values
        return {name: shard_if_whole(value, parameter) for name, value in values.items()}

    per_parameter = {index: sharded(index, values) for index, values in state["state"].items()}
    return {**state, "state": per_parameter}


def loadable_state(state: Any, obj: object) -> Any:
    """Return what ``obj.load_state_dict`` takes, from what a file holds."""
    if isinstance(obj, torch.optim.Optimizer) and isinstance(state, Mapping):
        return sharded_optimizer_state(state, obj)
    return state
