"""The order in which the gradients of a module under DDP come, which a resume needs.

Behind the first backward pass DDP lays gradients out anew, in the order in which they came. Sums
over three or more processes are then rounded in another order, so a run that goes on has to begin
with the layout that the interrupted one had.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

Orders = dict[str, list[str]]
"""Entry of ``modules`` -> names of its parameters."""


class GradientOrder:
    """Notes the order in the first backward pass."""

    def __init__(self, modules: torch.nn.ModuleDict, known: Orders | None = None) -> None:
        """Listen to the parameters, unless the order is known.

        Args:
            modules: those of the Brain, wrapped.
            known: what :meth:`of_all` returned in the interrupted run.
        """
        self._orders: Orders = {} if known is None else known
        if known is None:
            for name, wrapped in _laid_out_anew(modules):
                self._listen(wrapped, self._orders.setdefault(name, []))

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
        parameters = _exchanged(wrapped)
        if sorted(order) != sorted(parameters):
            continue
        kept = {each: parameters[each].grad for each in order}
        with _forward_of(wrapped.module, [parameters[each] for each in order]):
            wrapped().backward()
        for each, gradient in kept.items():
            parameters[each].grad = gradient


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


@contextmanager
def _forward_of(module: torch.nn.Module, parameters: Iterable[torch.Tensor]) -> Iterator[None]:
    """Let the module return zero, from which gradients come in the order of the parameters."""

    def forward() -> torch.Tensor:
        total = torch.zeros((), device=next(module.parameters()).device)
        # What is computed last comes first in the backward pass.
        for parameter in reversed(list(parameters)):
            total = total + (parameter * 0).sum()
        return total

    had = vars(module).get("forward")
    vars(module)["forward"] = forward
    try:
        with torch.enable_grad():
            yield
    finally:
        if had is None:
            del vars(module)["forward"]
        else:
            vars(module)["forward"] = had
