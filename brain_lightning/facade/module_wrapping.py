"""Compiling the entries of a Brain's modules and wrapping them for several processes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch.nn import DataParallel, Module, ModuleDict, SyncBatchNorm
from torch.nn.parallel import DistributedDataParallel

from brain_lightning.ground.loggers import get_logger

logger = get_logger(__name__)


def selected_keys(
    option: str, everything: bool, keys: Collection[str] | None, modules: ModuleDict
) -> set[str]:
    """Which entries of ``modules`` to compile.

    Args:
        option: the option's name, ``jit`` or ``compile``.
        everything: its value.
        keys: the value of ``<option>_module_keys``.
        modules: what there is.

    Raises:
        ValueError: a key that ``modules`` does not have.
    """
    if not everything:
        return set()
    if keys is None:
        return set(modules)
    logger.warning("%s is on, but only the entries in %s_module_keys are compiled.", option, option)
    for key in keys:
        if key not in modules:
            raise ValueError(
                f"{option}_module_keys names {key!r}, but modules has no such entry. There are: "
                f"{', '.join(modules) or 'none'}."
            )
    return set(keys)


def compile_with_inductor(
    modules: ModuleDict, keys: Collection[str], device: str, **options: Any
) -> set[str]:
    """Replace the entries ``keys`` by their ``torch.compile``; return those that worked.

    An entry that cannot be compiled stays as it is, with a warning.
    """
    compiled = set()
    for key in keys:
        try:
            module = torch.compile(modules[key], **options)
        except Exception as error:  # whatever the compiler's backends raise
            logger.warning(
                "torch.compile cannot compile modules[%r], it stays as it is: %s", key, error
            )
            continue
        modules[key] = module.to(device)  # type: ignore[attr-defined]
        compiled.add(key)
    return compiled


def compile_with_jit(modules: ModuleDict, keys: Collection[str], device: str) -> None:
    """Replace the entries ``keys`` by their TorchScript."""
    for key in keys:
        modules[key] = torch.jit.script(modules[key]).to(device)


def wrap_in_ddp(
    modules: ModuleDict, device: str, backend: str, find_unused_parameters: bool
) -> None:
    """Wrap each entry that has something to train in DDP, its batch norms synchronized."""
    for key, module in modules.items():
        if not _trains(module):
            continue
        modules[key] = DistributedDataParallel(
            SyncBatchNorm.convert_sync_batchnorm(module),  # type: ignore[no-untyped-call]
            device_ids=None if backend == "gloo" else [device],
            find_unused_parameters=find_unused_parameters,
        )


def wrap_in_data_parallel(modules: ModuleDict) -> None:
    """Wrap each entry that has something to train in DataParallel."""
    for key, module in modules.items():
        if _trains(module):
            modules[key] = DataParallel(module)


def _trains(module: Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
