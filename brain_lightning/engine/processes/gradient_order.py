"""The order in which the gradients of a module under DDP come, which a resume needs.

After the first backward pass DDP lays gradients out anew, in the order in which they came. Sums
over three or more processes are then rounded in another order, so a run that goes on has to begin
with the layout that the interrupted one had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

Orders = dict[str, list[str]]
"""Entry of ``modules`` -> names of its parameters."""


class GradientOrder:
    """Notes the order in the first backward pass."""

    def __init__(self, modules: torch.nn.ModuleDict, known: Orders | None = None) -> None:
        """Listen to the parameters of the entries whose order is not known.

        Args:
            modules: those of the Brain, wrapped.
            known: what :meth:`of_all` returned in the interrupted run.
        """
        self._orders: Orders = {}
        for name, wrapped in _laid_out_anew(modules):
            order = (known or {}).get(name, [])
            self._orders[name] = order = order if _fits(order, wrapped) else []
            if not order:
                self._listen(wrapped, order)

    def of_all(self) -> Orders:
        """Return the orders, as far as they are known."""
        return self._orders

    @staticmethod
    def _listen(wrapped: DistributedDataParallel, order: list[str]) -> None:
        handles: list[Any] = []

        def note(name: str) -> None:
            order.append(name)
            if len(order) == len(handles):  # nothing is left on the way of later batches
                for handle in handles:
                    handle.remove()

        for name, parameter in _exchanged(wrapped).items():
            listen: Any = parameter.register_post_accumulate_grad_hook
            handles.append(listen(lambda _, name=name: note(name)))


def lay_out(modules: torch.nn.ModuleDict, orders: Mapping[str, Sequence[str]]) -> None:
    """Have DDP lay gradients out in these orders from the next batch on.

    All processes call it together, before the first batch. A backward pass of zeros tells DDP the
    order; gradients stay as they are.
    """
    for name, wrapped in _laid_out_anew(modules):
        order = orders.get(name, ())
        if not order or not _fits(order, wrapped):
            continue
        exchanged = _exchanged(wrapped)
        parameters = [exchanged[each] for each in order]
        kept = [each.grad for each in parameters]
        for each in parameters:  # what is there would be averaged over the processes, in place
            each.grad = None
        _exchange_zeros(wrapped, parameters)
        for each, gradient in zip(parameters, kept, strict=True):
            each.grad = gradient


def _laid_out_anew(
    modules: torch.nn.ModuleDict,
) -> Iterator[tuple[str, DistributedDataParallel]]:
    for name, module in modules.items():
        if isinstance(module, DistributedDataParallel) and not module.find_unused_parameters:
            yield name, module


def _exchanged(wrapped: DistributedDataParallel) -> dict[str, torch.nn.Parameter]:
    return {
        name: parameter
        for name, parameter in wrapped.module.named_parameters()
        if parameter.requires_grad
    }


def _fits(order: Sequence[str], wrapped: DistributedDataParallel) -> bool:
    return sorted(order) == sorted(_exchanged(wrapped))


def _exchange_zeros(
    wrapped: DistributedDataParallel, parameters: Sequence[torch.nn.Parameter]
) -> None:
    module, broadcasts = wrapped.module, wrapped.broadcast_buffers
    # In the module's place, and without the call: hooks of both expect inputs that there are not.
    wrapped.module = _Zero(parameters)
    wrapped.broadcast_buffers = False  # it has none
    try:
        with torch.enable_grad():
            wrapped.forward().backward()  # type: ignore[no-untyped-call]
    finally:
        wrapped.module = module
        wrapped.broadcast_buffers = broadcasts


class _Zero(torch.nn.Module):
    """Returns zero, from which gradients come in the order of the parameters."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        super().__init__()
        self._in_order = tuple(parameters)

    @override
    def forward(self) -> torch.Tensor:
        total = torch.zeros((), device=self._in_order[0].device)
        # What is computed last comes first in the backward pass.
        for parameter in reversed(self._in_order):
            total = total + torch.real(parameter * 0).sum()
        return total
