"""How torch modules, optimizers, schedulers and gradient scalers are saved and loaded."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.ranks import once_per_node
from brain_lightning.parts.checkpoints.key_mapping import hook_on_loading_state_dict_checkpoint
from brain_lightning.parts.checkpoints.main_process_hooks import on_main_process
from brain_lightning.parts.checkpoints.pruned_modules import prune_as_in
from brain_lightning.parts.checkpoints.sharded_states import loadable_state

logger = get_logger(__name__)


def load_plain(path: str | Path, device: str | torch.device = "cpu") -> Any:
    """Read tensors and plain values from a file that ``torch.save`` wrote, running no code in it.

    Raises:
        ValueError: the file holds pickled objects of other classes, or is empty.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except EOFError as error:  # which says nothing
        raise ValueError(f"{path} is empty or ends too early.") from error
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} could not be read as tensors and plain values. If it is an intact file, it "
            "holds pickled Python objects, and loading those can run any code. If you trust it, "
            "give this recoverable a custom_load_hook that calls torch.load(path, "
            "weights_only=False), or allow the classes with torch.serialization.add_safe_globals. "
            f"torch says: {error}"
        ) from error


def torch_patched_state_dict_load(
    path: str | Path, device: str | torch.device = "cpu"
) -> dict[str, Any]:
    """Read a state dict and bring its old key names up to date. Nothing is loaded into a module."""
    return hook_on_loading_state_dict_checkpoint(load_plain(path, device))


def torch_recovery(obj: Any, path: str | Path, end_of_epoch: bool) -> None:
    """Default load hook: strict ``load_state_dict`` of what ``path`` holds.

    ``end_of_epoch`` makes no difference here.
    """
    del end_of_epoch
    state_dict = torch_patched_state_dict_load(path, "cpu")
    load_state_dict_strictly(obj, state_dict)


def load_state_dict_strictly(obj: Any, state_dict: dict[str, Any]) -> None:
    """``obj.load_state_dict(state_dict)``, with ``strict=True`` where the object knows it."""
    state_dict = loadable_state(state_dict, obj)
    if isinstance(obj, torch.nn.Module):
        prune_as_in(state_dict, obj)
    try:
        obj.load_state_dict(state_dict, strict=True)
    except TypeError:  # optimizers and schedulers take the state only
        obj.load_state_dict(state_dict)


def write_state_dict(obj: Any, path: str | Path) -> None:
    """Write ``obj.state_dict()`` to ``path`` in the calling process."""
    state_dict = obj.state_dict()
    if not state_dict:
        logger.warning("Saving an empty state_dict for %s in %s.", obj, path)
    torch.save(state_dict, path)


@on_main_process
def torch_save(obj: Any, path: str | Path) -> None:
    """Default save hook: the main process writes ``obj.state_dict()`` to ``path``."""
    write_state_dict(obj, path)


@once_per_node
def torch_save_once_per_node(obj: Any, path: str | Path) -> None:
    """The default save hook for nodes that share no file system: one process a node writes."""
    write_state_dict(obj, path)


def torch_parameter_transfer(obj: Any, path: str | Path) -> None:
    """Default transfer hook: load what fits by name and log a warning for each other name."""
    state_dict = torch_patched_state_dict_load(path, "cpu")
    incompatible = obj.load_state_dict(state_dict, strict=False)
    for key in incompatible.missing_keys:
        logger.warning("%s has the parameter %r, which %s lacks; it is unchanged", obj, key, path)
    for key in incompatible.unexpected_keys:
        logger.warning("%s holds the parameter %r, for which %s has no place", path, key, obj)
