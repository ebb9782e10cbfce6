"""When processes exchange gradients, and what FSDP2 keeps until they do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from brain_lightning.ground.ranks import if_main_process
from brain_lightning.ground.sharded_tensors import is_sharded_tensor
from brain_lightning.parts.checkpoints.sharded_states import whole_tensor

# Attributes of sharded modules, in their __dict__: torch's __setattr__ takes no part.
_OFF = "_exchanges_no_gradients"
_KEEPS = "_keeps_gradients"
_REDUCES_IN_OTHER_TYPE = "_reduces_in_other_type"
# Of the ModuleDict that they are in.
_ROOTS = "_sharded_roots"


def exchanges_gradients(root: torch.nn.Module) -> bool:
    """Whether a backward pass through a sharded module exchanges its gradients."""
    return not vars(root).get(_OFF, False)


@contextmanager
def gradients_kept(modules: torch.nn.ModuleDict, use: bool = True) -> Iterator[None]:
    """Keep DDP and FSDP2 from exchanging gradients within, for batches that only accumulate.

    FSDP2 has to decide in the backward pass, DDP in the forward pass: both belong in here.
    """
    wrapped = [each for each in modules.values() if hasattr(each, "require_backward_grad_sync")]
    before = [each.require_backward_grad_sync for each in wrapped]
    sharded = _sharded_roots(modules) if use else []
    if use:
        _exchange(wrapped, [False] * len(wrapped))
    for root in sharded:
        _exchange_sharded(root, False)
    yield
    if use:
        _exchange(wrapped, before)
    for root in sharded:
        _exchange_sharded(root, True)


def exchange_gradients(modules: torch.nn.ModuleDict, exchanges: bool) -> None:
    """Have gradients exchanged from now on, or not."""
    wrapped = [each for each in modules.values() if hasattr(each, "require_backward_grad_sync")]
    _exchange(wrapped, [exchanges] * len(wrapped))
    for root in _sharded_roots(modules):
        _exchange_sharded(root, exchanges)


def _exchange(wrapped: Iterable[Any], values: Iterable[Any]) -> None:
    for module, value in zip(wrapped, values, strict=True):
        module.require_backward_grad_sync = value


def _exchange_sharded(root: Any, exchanges: bool) -> None:
    if vars(root).get(_REDUCES_IN_OTHER_TYPE, False):
        return  # what FSDP2 then keeps could neither be dropped nor saved
    root.set_requires_gradient_sync(exchanges)
    vars(root)[_OFF] = not exchanges
    if not exchanges:
        vars(root)[_KEEPS] = True


def always_exchange(root: torch.nn.Module) -> None:
    """Have a sharded module's gradients exchanged after each batch, whatever ``no_sync`` says."""
    vars(root)[_REDUCES_IN_OTHER_TYPE] = True


def note_sharded_roots(modules: torch.nn.ModuleDict, roots: Iterable[torch.nn.Module]) -> None:
    """Note the outermost sharded modules within the entries."""
    vars(modules)[_ROOTS] = list(roots)


def _sharded_roots(modules: torch.nn.ModuleDict) -> list[Any]:
    roots: list[Any] = vars(modules).get(_ROOTS, [])
    return roots


# -- gradients that wait for an exchange --------------------------------------------------------


def drop_kept_gradients(modules: torch.nn.ModuleDict) -> None:
    """Drop what has accumulated without an exchange: ``zero_grad`` does not reach it.

    All processes call it together.
    """
    for _, part in _keeping_parts(modules):
        part.unshard()
        for parameter in part.parameters():
            if not is_sharded_tensor(parameter):
                parameter.grad = None
        part.reshard()
    for root in _sharded_roots(modules):
        vars(root)[_KEEPS] = False


def whole_gradients(modules: torch.nn.ModuleDict) -> dict[str, torch.Tensor] | None:
    """Return all gradients that wait for a step, whole, on the main process; nothing on others.

    All processes call it together. What was not exchanged yet is the mean over the processes.

    Returns:
        None where nothing is sharded.
    """
    if not _sharded_roots(modules):
        return None
    found: dict[str, torch.Tensor] = {}
    for name, parameter in modules.named_parameters():
        if parameter.grad is not None:
            gradient: Any = parameter.grad
            if is_sharded_tensor(gradient):
                _add(found, name, whole_tensor(gradient))
            else:
                _add(found, name, gradient.detach().to("cpu", copy=True))
    for prefix, part in _keeping_parts(modules):
        part.unshard()
        for name, parameter in part.named_parameters(prefix):
            if parameter.grad is not None and not is_sharded_tensor(parameter):
                mean = parameter.grad.detach().clone()
                torch.distributed.all_reduce(mean)
                _add(found, name, (mean / torch.distributed.get_world_size()).cpu())
        part.reshard()
    return found


def _add(found: dict[str, torch.Tensor], name: str, gradient: torch.Tensor | None) -> None:
    if gradient is not None and if_main_process():
        found[name] = gradient if name not in found else found[name] + gradient


def _keeping_parts(modules: torch.nn.ModuleDict) -> Iterator[tuple[str, Any]]:
    roots = {id(each) for each in _sharded_roots(modules) if vars(each).get(_KEEPS, False)}
    if not roots:
        return
    from torch.distributed.fsdp import FSDPModule

    inside: set[int] = set()
    for name, module in modules.named_modules():
        if id(module) in roots:
            inside |= {id(part) for part in module.modules()}
        if id(module) in inside and isinstance(module, FSDPModule):
            yield name, module
