"""States of torchmetrics objects in an evaluation that several processes share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torchmetrics import Metric

TensorGather = Callable[[torch.Tensor], list[torch.Tensor]]


def _not_distributed() -> bool:
    return False


class KeptApart:
    """Metrics that do not exchange their states by themselves for the time being.

    torchmetrics does so whenever ``compute()`` is called, which is once on each process and for
    states of which each process has a part. Here they are gathered before.
    """

    def __init__(self, metrics: Iterable[Metric]) -> None:
        """Keep ``metrics`` from exchanging."""
        self._before = [(metric, metric.distributed_available_fn) for metric in metrics]
        for metric, _ in self._before:
            metric.distributed_available_fn = _not_distributed

    def release(self) -> None:
        """Let them exchange as before."""
        for metric, function in self._before:
            metric.distributed_available_fn = function
        self._before = []


def list_states(metric: Metric) -> list[str]:
    """Return the names of the states that are lists; they are gathered in the order of the data."""
    return [name for name, value in metric.metric_state.items() if isinstance(value, list)]


def copied_state(metric: Metric) -> dict[str, Any]:
    """Return a copy of a metric's state."""
    return {
        name: list(value) if isinstance(value, list) else value.detach().clone()
        for name, value in metric.metric_state.items()
    }


def set_state(metric: Metric, state: dict[str, Any]) -> None:
    """Put a state into a metric."""
    for name, value in state.items():
        setattr(metric, name, value)
    _forget_result(metric)


def empty_tensors(metric: Metric) -> None:
    """Set the states that are tensors to those of a metric that has seen nothing."""
    fresh = metric.clone()
    fresh.reset()
    tensors = {name: fresh.metric_state[name] for name in _tensor_states(metric)}
    set_state(metric, tensors)


def reduce_tensors(metric: Metric, gather: TensorGather) -> None:
    """Set the states that are tensors to those of all processes, each by its own reduction.

    Args:
        metric: as many and the same on every process.
        gather: returns a tensor of every process.
    """
    names = _tensor_states(metric)
    if names:
        together = metric.clone()
        for name in list_states(together):
            setattr(together, name, [])
        together.sync(
            dist_sync_fn=lambda tensor, group=None: gather(tensor),
            distributed_available=lambda: True,
        )
        set_state(metric, {name: together.metric_state[name] for name in names})
    _forget_result(metric)


def _tensor_states(metric: Metric) -> list[str]:
    return [name for name, value in metric.metric_state.items() if not isinstance(value, list)]


def _forget_result(metric: Metric) -> None:
    # What compute() returned is kept until the next update; torchmetrics has no public way to say
    # that the state has changed otherwise (checked with 1.0 to 1.9).
    vars(metric)["_computed"] = None
