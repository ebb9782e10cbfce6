"""What one DataLoader was made with, to make another one that differs in its batches only."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader

_NAMES = (
    "num_workers",
    "collate_fn",
    "pin_memory",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "generator",
    "prefetch_factor",
    "persistent_workers",
    # Newer than the oldest torch we take, and older than the newest.
    "in_order",
    "pin_memory_device",
)


def loader_options(loader: DataLoader[Any]) -> dict[str, Any]:
    """Return the arguments of a loader, but for the data set and what decides about its batches."""
    return {name: getattr(loader, name) for name in _NAMES if hasattr(loader, name)}
