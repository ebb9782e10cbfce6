"""Copies of states that stay as they are while training goes on."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
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

    It is as large as the states themselves. A snapshot is valid until the next one is taken, and
    complete once :meth:`complete` has returned.
    """

    def __init__(self) -> None:
        """Begin without memory; it grows with what is copied."""
        self._buffers: dict[tuple[object, ...], torch.Tensor] = {}
        self._used: set[tuple[object, ...]] = set()
        self._shared: dict[_Place, torch.Tensor] = {}
        self._devices: set[torch.device] = set()
        self._delays = False
        self._delayed: list[tuple[torch.Tensor, torch.Tensor]] = []

    def copy(self, states: Mapping[str, Any], delayed: Collection[str] = ()) -> dict[str, Any]:
        """Return a copy of the states: the same containers, tensors in the buffers.

        Tensors that are the same memory, as tied weights are, are the same in the copy.

        Args:
            states: name -> state.
            delayed: names of optimizers' states whose moments, where they are on the CPU, are left
                for :meth:`complete` to copy.
        """
        self._used.clear()
        self._shared.clear()
        self._devices.clear()
        self._delayed.clear()
        now = {name: state for name, state in states.items() if name not in delayed}
        copied = {name: self._copy(state, (name,)) for name, state in now.items()}
        for name in states.keys() - now.keys():
            copied[name] = self._copy_delayed(states[name], name)
        for device in self._devices:  # their copies run beside
            torch.get_device_module(device).synchronize(device)
        self._buffers = {key: self._buffers[key] for key in self._used}
        self._shared.clear()
        return {name: copied[name] for name in states}

    def prepare(self, states: Mapping[str, Any]) -> None:
        """Get the memory for such states, so that the first copy need not; may be in a thread.

        What has a buffer already keeps it. A buffer that the next copy does not use is given up.
        """
        places = set()
        for key, tensor in _tensors_in(states, ()):
            if key in self._buffers or not _has_buffer(tensor):
                continue
            # Gradients are prepared with parameters in their place: other memory, other file.
            place = (key[0], _place_of(tensor))
            if place not in places:
                places.add(place)
                # Only memory that was written to is there; the system gives it page by page.
                self._buffers[key] = _empty_on_cpu(tensor).zero_()

    def complete(self) -> None:
        """Copy what was left; may be called in another thread."""
        for buffer, tensor in self._delayed:
            buffer.copy_(tensor)
        self._delayed.clear()

    def _copy_delayed(self, state: dict[str, Any], name: str) -> dict[str, Any]:
        """Copy an optimizer's state; rates and the like, which others change too, at once."""
        copied = {}
        for entry, value in state.items():
            self._delays = entry == "state"
            copied[entry] = self._copy(value, (name, entry))
        self._delays = False
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
        if not _has_buffer(tensor):
            return tensor.clone()
        place = _place_of(tensor)
        if place not in self._shared:
            self._shared[place] = self._filled_buffer(tensor, key)
        return self._shared[place].detach()  # an object of its own, as in the state

    def _filled_buffer(self, tensor: torch.Tensor, key: tuple[object, ...]) -> torch.Tensor:
        buffer = self._buffers.get(key)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = self._buffers[key] = _empty_on_cpu(tensor)
        self._used.add(key)
        if self._delays and tensor.device.type == "cpu":
            self._delayed.append((buffer, tensor))
            return buffer
        buffer.copy_(tensor, non_blocking=True)
        if tensor.device.type != "cpu":
            self._devices.add(tensor.device)
        return buffer


def _has_buffer(tensor: torch.Tensor) -> bool:
    """Whether a tensor is copied into a buffer; of others there is little, and they are cloned."""
    if type(tensor) is not torch.Tensor or tensor.layout is not torch.strided:
        return False
    return not tensor.is_quantized and tensor.numel() > 0


def _place_of(tensor: torch.Tensor) -> _Place:
    return _Place(
        tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device
    )


def _tensors_in(
    value: Any, key: tuple[object, ...]
) -> Iterator[tuple[tuple[object, ...], torch.Tensor]]:
    """Yield the tensors within a state with the keys under which they are copied."""
    if isinstance(value, torch.Tensor):
        yield key, value.detach()
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _tensors_in(item, (*key, name))
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            yield from _tensors_in(item, (*key, index))


def _empty_on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    # Pinned memory lets the copies of all tensors run without waiting for each.
    pinned = tensor.device.type == "cuda"
    return torch.empty_like(tensor, device="cpu", pin_memory=pinned)
