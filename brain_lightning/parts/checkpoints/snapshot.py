"""Copies of states that stay as they are while training goes on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from brain_lightning.parts.checkpoints.hooks import Hook
from brain_lightning.parts.checkpoints.torch_hooks import (
    torch_save,
)


def writes_state_only(hook: Hook) -> bool:
    """Whether a save hook does nothing but write ``obj.state_dict()``, so that a copy will do."""
    return hook is torch_save


class _Place(NamedTuple):
    """What makes two tensors one piece of memory, and so one buffer."""

    pointer: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


class SnapshotBuffers:
    """Memory on the CPU into which states are copied, used again for the next snapshot.

    It is as large as the states themselves. A snapshot is valid until the next one is taken.
    """

    def __init__(self) -> None:
        """Begin without memory; it grows with what is copied."""
        self._buffers: dict[tuple[object, ...], torch.Tensor] = {}
        self._used: set[tuple[object, ...]] = set()
        self._shared: dict[_Place, torch.Tensor] = {}
        self._devices: set[torch.device] = set()

    def copy(self, states: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of the states: the same containers, tensors in the buffers.

        Tensors that are the same memory, as tied weights are, are the same in the copy.
        """
        self._used.clear()
        self._shared.clear()
        self._devices.clear()
        copied = {name: self._copy(state, (name,)) for name, state in states.items()}
        for device in self._devices:  # their copies run beside
            torch.get_device_module(device).synchronize(device)
        self._buffers = {key: self._buffers[key] for key in self._used}
        self._shared.clear()
        return copied

    def _copy(self, value: Any, key: tuple[object, ...]) -> Any:
        if isinstance(value, torch.Tensor):
            return self._copy_tensor(value.detach(), key)
        if isinstance(value, dict):
            return self._copy_dict(value, key)
        if type(value) in (list, tuple):
            return type(value)(self._copy(item, (*key, i)) for i, item in enumerate(value))
        return copy.deepcopy(value)

    def _copy_dict(self, value: dict[Any, Any], key: tuple[object, ...]) -> dict[Any, Any]:
        copied = copy.copy(value)  # with what stands beside, as the versions in a state dict
        for name, item in value.items():
            copied[name] = self._copy(item, (*key, name))
        return copied

    def _copy_tensor(self, tensor: torch.Tensor, key: tuple[object, ...]) -> torch.Tensor:
        if type(tensor) is not torch.Tensor or tensor.layout is not torch.strided:
            return tensor.clone()
        if tensor.is_quantized or tensor.numel() == 0:
            return tensor.clone()
        place = _Place(
            tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device
        )
        if place not in self._shared:
            self._shared[place] = self._filled_buffer(tensor, key)
        return self._shared[place].detach()  # an object of its own, as in the state

    def _filled_buffer(self, tensor: torch.Tensor, key: tuple[object, ...]) -> torch.Tensor:
        buffer = self._buffers.get(key)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = self._buffers[key] = _empty_on_cpu(tensor)
        self._used.add(key)
        buffer.copy_(tensor, non_blocking=True)
        if tensor.device.type != "cpu":
            self._devices.add(tensor.device)
        return buffer


def _empty_on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    # Pinned memory lets the copies of all tensors run without waiting for each.
    pinned = tensor.device.type == "cuda"
    return torch.empty_like(tensor, device="cpu", pin_memory=pinned)
