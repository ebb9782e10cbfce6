"""What an entry of a Brain's modules is inside of the wrappers for processes and the compiler."""

from __future__ import annotations

import torch
from torch.nn.parallel import DataParallel, DistributedDataParallel

from brain_lightning.ground.torch_internals import COMPILED, is_compiled


def wrapper_prefix(module: object) -> str | None:
    """Return what a wrapper puts in front of the names of its parameters; None if it is none."""
    if isinstance(module, (DistributedDataParallel, DataParallel)):
        return "module."
    return f"{COMPILED}." if is_compiled(module) else None


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """Return the module that the recipe has made."""
    while (prefix := wrapper_prefix(module)) is not None:
        module = getattr(module, prefix[:-1])
    return module
