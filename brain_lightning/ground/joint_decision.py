"""Small decisions that all processes take together, without waiting for a GPU."""

from __future__ import annotations

from typing import Any

import torch

from brain_lightning.ground.process_group import get_timeout
from brain_lightning.ground.ranks import about_to_wait, ddp_prevent_block, if_main_process

# The group that decides, with the default group that it was made for.
_group: tuple[object, object] | None = None


def highest(*values: int) -> list[int]:
    """Return for each value the highest that any process gave; every process must call it.

    The values travel between the CPUs, so that nobody waits for what a GPU still has to do.
    """
    if ddp_prevent_block():
        return list(values)
    about_to_wait()
    box = torch.tensor(values, dtype=torch.int64)
    torch.distributed.all_reduce(box, op=torch.distributed.ReduceOp.MAX, group=cpu_group())
    return [int(value) for value in box.tolist()]


def main_process_decides(decision: bool) -> bool:
    """Return the main process's decision on every process."""
    return bool(highest(int(decision and if_main_process()))[0])


def cpu_group() -> Any:
    """The default group if it works on the CPU, else one beside it, made by all at first use."""
    global _group
    world = torch.distributed.group.WORLD
    if _group is None or _group[0] is not world:
        group = world
        if torch.distributed.get_backend() != torch.distributed.Backend.GLOO:
            group = torch.distributed.new_group(backend="gloo", timeout=get_timeout())
        _group = (world, group)
    return _group[1]
