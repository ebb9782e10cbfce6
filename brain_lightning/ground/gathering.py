"""Objects of all processes on every process."""

from __future__ import annotations

import io
from typing import Any

import torch

from brain_lightning.ground.joint_decision import cpu_group
from brain_lightning.ground.ranks import about_to_wait, ddp_prevent_block


def all_gathered(value: Any) -> list[Any]:
    """Return the value of each process, in the order of ranks; every process must call it.

    The values travel between the CPUs; tensors of a GPU come out on the receiver's GPU. Own values
    come back as copies too.

    Raises:
        Whatever pickling the value raises.
    """
    if ddp_prevent_block():
        return [value]
    return [unpacked(data) for data in all_gathered_bytes(packed(value))]


def all_gathered_bytes(data: bytes) -> list[bytes]:
    """Return the bytes of each process, in the order of ranks; every process must call it."""
    if ddp_prevent_block():
        return [data]
    about_to_wait()
    boxes: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(boxes, data, group=cpu_group())
    return boxes


def packed(value: Any) -> bytes:
    """Return a value as bytes; tensors that share memory are there once."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def unpacked(data: bytes) -> Any:
    """Return what was packed; only what a process of the same run has packed."""
    return torch.load(io.BytesIO(data), map_location=_on_own_device, weights_only=False)


def _on_own_device(storage: Any, location: str) -> Any:
    if location.startswith("cuda"):
        return storage.cuda(torch.cuda.current_device())
    return storage
