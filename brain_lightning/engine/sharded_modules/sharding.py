"""Sharding the entries of a Brain's modules over the processes, with torch's FSDP2."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.nn import Module, ModuleDict

from brain_lightning.engine.processes.gradient_exchange import always_exchange, note_sharded_roots
from brain_lightning.engine.sharded_modules.buffer_exchange import take_from_main
from brain_lightning.engine.sharded_modules.fsdp2 import FSDP2
from brain_lightning.engine.sharded_modules.sharded_calls import gather_for_calls, settle
from brain_lightning.ground.errors import OptionError
from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.ranks import is_distributed_initialized
from brain_lightning.ground.sharded_tensors import is_sharded_tensor
from brain_lightning.ground.torch_internals import COMPILED, is_compiled
from brain_lightning.parts.checkpoints.gathering import prepare_gathering
from brain_lightning.parts.checkpoints.sharded_states import accept_whole_tensors

logger = get_logger(__name__)

_mesh: tuple[object, Any] | None = None


def shard_entries(
    modules: ModuleDict, policy: FSDP2, device: str, find_unused_parameters: bool = False
) -> None:
    """Shard each entry that has something to train, in place; all processes begin as the main one.

    An entry stays the object that it was, so that what else refers to it goes on working. Entries
    that are sharded already stay as they are.

    Args:
        modules: of the Brain; batch norms in them become synchronized ones, as under DDP.
        policy: what is sharded by itself, and how.
        device: where the modules are.
        find_unused_parameters: whether processes may use different parameters for a batch.

    Raises:
        OptionError: an entry cannot be sharded.
    """
    if not is_distributed_initialized():
        raise OptionError(
            "strategy fsdp2 shards over the processes of a group, and there is none. Call "
            "ddp_init_group(run_opts) in the recipe before the Brain is made."
        )
    reshard(modules)
    for key, module in modules.items():
        if _trains(module) and not _is_sharded(module):
            modules[key] = torch.nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    entries = [(k, m) for k, m in modules.items() if _trains(m) and not _is_sharded(m)]
    if entries:
        _require_shardable(entries, policy)
        _shard(_roots([module for _, module in entries]), policy, device, find_unused_parameters)
    trained = [module for module in modules.values() if _trains(module)]
    note_sharded_roots(modules, _roots(trained))
    prepare_gathering()


def _shard(roots: list[Module], policy: FSDP2, device: str, find_unused_parameters: bool) -> None:
    options = _options(policy, device)
    for root in roots:
        _shard_root(root, policy, options)
        if find_unused_parameters:
            _reduce_unused_parameters(root)
        if policy.reduce_dtype is not None:
            always_exchange(root)
    for root in reversed(roots):
        settle(root)
        reshard(root)
        accept_whole_tensors(root)


def reshard(modules: Module) -> None:
    """Free what is gathered: after a forward pass without a backward one it may still be.

    ``parameters()`` then gives the sharded ones, which is what an optimizer steps.
    """
    kind = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", None)
    if kind is None or not is_distributed_initialized():
        return
    for part in modules.modules():
        if isinstance(part, kind):
            part.reshard()


def _roots(modules: Iterable[Module]) -> list[Module]:
    """Return what is sharded of some modules, each once.

    One inside another comes before it: what is sharded is left alone by what contains it.
    """
    found = {id(root): root for module in modules for root in _with_forward(module)}
    return sorted(found.values(), key=lambda root: sum(1 for _ in root.modules()))


def _shard_root(root: Module, policy: FSDP2, options: dict[str, Any]) -> None:
    from torch.distributed.fsdp import FSDPModule, fully_shard

    _begin_as_main(root)
    for part in [*_parts(root, policy), root]:
        if not isinstance(part, FSDPModule):
            fully_shard(part, **options)
    gather_for_calls(root)


def _reduce_unused_parameters(root: Any) -> None:
    if hasattr(root, "set_reduce_scatter_unused_params"):
        root.set_reduce_scatter_unused_params(True)
        return
    logger.warning(
        "find_unused_parameters is ignored: FSDP2 of torch %s has no such setting, so all "
        "processes have to use the same parameters for a batch. Newer versions of torch have it.",
        torch.__version__,
    )


def _begin_as_main(root: Module) -> None:
    """Take the main process's parameters and buffers, as DDP does."""
    for tensor in [*root.parameters(), *root.buffers()]:
        if not is_sharded_tensor(tensor):
            take_from_main(tensor.detach())


def _options(policy: FSDP2, device: str) -> dict[str, Any]:
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy

    kind = torch.device(device).type
    precision = MixedPrecisionPolicy(
        param_dtype=policy.param_dtype,  # type: ignore[arg-type]
        reduce_dtype=policy.reduce_dtype,  # type: ignore[arg-type]
        # Inputs hold relative lengths too, which must stay exact; autocast sees to the rest.
        cast_forward_inputs=False,
    )
    offload = CPUOffloadPolicy(pin_memory=kind == "cuda") if policy.cpu_offload else OffloadPolicy()
    return {
        "mesh": _mesh_of(kind, policy.cpu_offload),
        "reshard_after_forward": policy.reshard_after_forward,
        "mp_policy": precision,
        "offload_policy": offload,
    }


def _mesh_of(kind: str, offloads: bool) -> Any:
    """Return all processes as a mesh, made at first use by all together."""
    from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

    global _mesh
    key = (torch.distributed.group.WORLD, kind, offloads)
    if _mesh is None or _mesh[0] != key:
        if offloads and kind == "cuda":  # norms of gradients are exchanged between CPUs then
            group = torch.distributed.new_group(backend="cpu:gloo,cuda:nccl")
            made = DeviceMesh.from_group(group, kind)
        else:
            made = init_device_mesh(kind, (torch.distributed.get_world_size(),))
        _mesh = (key, made)
    return _mesh[1]


# -- what is sharded by itself -----------------------------------------------------------------


def _with_forward(module: Module) -> list[Module]:
    """Return the module, or what is in it if it is a list that cannot be called."""
    if is_compiled(module):
        module = module.get_submodule(COMPILED)
    if not isinstance(module, (torch.nn.ModuleList, torch.nn.ModuleDict)):
        return [module] if _trains(module) else []
    return [root for child in module.children() for root in _with_forward(child)]


def _parts(root: Module, policy: FSDP2) -> Iterator[Module]:
    """Yield the parts of a module that are gathered by themselves, inner ones first."""
    named = [part for part in root.modules() if part is not root and policy.wraps(part)]
    yield from reversed(named)
    if policy.wrap_parameters is not None:
        yield from _large_parts(root, policy.wrap_parameters, set(named))[0]


def _large_parts(module: Module, size: int, separate: set[Module]) -> tuple[list[Module], int]:
    """Return the parts below ``module`` of at least ``size``, and what is left besides them."""
    found: list[Module] = []
    left = sum(each.numel() for each in module.parameters(recurse=False))
    # Attention reads the weights of its output layer without calling it.
    children = [] if isinstance(module, torch.nn.MultiheadAttention) else list(module.children())
    if not children:
        left = sum(each.numel() for each in module.parameters())
    for child in children:
        inner, rest = _large_parts(child, size, separate)
        found += inner
        if child in separate:
            continue
        if rest >= size and not isinstance(child, (torch.nn.ModuleList, torch.nn.ModuleDict)):
            found.append(child)
        else:
            left += rest
    return found, left


# -- what cannot be sharded --------------------------------------------------------------------


def _trains(module: Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _is_sharded(module: Module) -> bool:
    return all(map(is_sharded_tensor, module.parameters()))


def _require_shardable(entries: list[tuple[str, Module]], policy: FSDP2) -> None:
    if not hasattr(torch.distributed, "fsdp") or not _has_fully_shard():
        raise OptionError(
            f"strategy fsdp2 needs torch 2.6 or newer, this is {torch.__version__}. Use ddp, the "
            "default."
        )
    for key, module in entries:
        for name, part in module.named_modules():
            if isinstance(part, torch.jit.ScriptModule):
                raise OptionError(
                    f"modules[{key!r}] cannot be sharded (strategy fsdp2): {name or 'it'} is "
                    "TorchScript. Leave out jit, or jit_module_keys."
                )
        for name, parameter in module.named_parameters():
            if parameter.dim() == 0:
                raise OptionError(
                    f"modules[{key!r}] cannot be sharded (strategy fsdp2): its parameter {name} "
                    "has no dimension to split. Give it one: torch.zeros(1) for torch.tensor(0.0)."
                )
    _require_known_classes(entries, policy)
    _require_own_parameters(entries)


def _has_fully_shard() -> bool:
    from torch.distributed import fsdp

    return hasattr(fsdp, "fully_shard") and hasattr(fsdp, "register_fsdp_forward_method")


def _require_known_classes(entries: list[tuple[str, Module]], policy: FSDP2) -> None:
    parts = [part for _, module in entries for part in module.modules()]
    for each in policy.wrap:
        if not any(FSDP2(wrap=(each,)).wraps(part) for part in parts):
            there = ", ".join(sorted({type(part).__name__ for part in parts}))
            raise OptionError(
                f"FSDP2: wrap names {each!r}, but no trainable entry of modules has a part of that "
                f"class. There are: {there}."
            )


def _require_own_parameters(entries: list[tuple[str, Module]]) -> None:
    """See that no parameter belongs to two entries, unless one entry is within the other."""
    owners: dict[int, tuple[str, Module]] = {}
    for key, module in sorted(entries, key=lambda entry: sum(1 for _ in entry[1].modules())):
        inside = {id(each) for each in module.modules()}
        for name, parameter in module.named_parameters():
            other_key, other = owners.setdefault(id(parameter), (key, module))
            roots = _with_forward(other)
            if other is not module and not all(id(root) in inside for root in roots):
                raise OptionError(
                    f"modules[{key!r}] cannot be sharded (strategy fsdp2): it shares the parameter "
                    f"{name} with modules[{other_key!r}]. Put both into one entry."
                )
