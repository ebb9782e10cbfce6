"""Buffers of sharded modules, such as running means: those of the main process, as under DDP."""

from __future__ import annotations

import torch

from brain_lightning.engine.processes.gradient_exchange import exchanges_gradients


class BufferExchange:
    """Takes the main process's buffers before each forward pass after one that trained.

    That is when DDP does it, so that evaluation, and what is saved, has the same values.
    """

    def __init__(self, root: torch.nn.Module) -> None:
        """Exchange the buffers of ``root``, if it has any."""
        self._root = root
        self._is_due = any(True for _ in root.buffers())

    def before_forward(self) -> None:
        """Take the buffers, if it is time."""
        if not self._is_due:
            return
        by_type: dict[torch.dtype, list[torch.Tensor]] = {}
        for buffer in self._root.buffers():
            by_type.setdefault(buffer.dtype, []).append(buffer.detach())
        for buffers in by_type.values():
            _take_all_from_main(buffers)
        self._is_due = False

    def after_forward(self) -> None:
        """See whether the buffers may have changed."""
        trained = torch.is_grad_enabled() and exchanges_gradients(self._root)
        self._is_due = trained and any(True for _ in self._root.buffers())


def _take_all_from_main(tensors: list[torch.Tensor]) -> None:
    flat = torch.cat([each.reshape(-1) for each in tensors])
    torch.distributed.broadcast(flat, src=0)
    parts = torch.split(flat, [each.numel() for each in tensors])
    for tensor, values in zip(tensors, parts, strict=True):
        tensor.copy_(values.view_as(tensor))


def take_from_main(tensor: torch.Tensor) -> None:
    """Make a tensor that of the main process; all processes call this together."""
    if tensor.is_contiguous():
        torch.distributed.broadcast(tensor, src=0)
    else:
        _take_all_from_main([tensor])
