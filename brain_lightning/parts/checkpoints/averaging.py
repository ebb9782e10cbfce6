"""The average of the parameters of several checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from brain_lightning.parts.checkpoints.checkpoint import Checkpoint
from brain_lightning.parts.checkpoints.errors import MissingParametersError
from brain_lightning.parts.checkpoints.integrity import require_whole_file
from brain_lightning.parts.checkpoints.key_mapping import hook_on_loading_state_dict_checkpoint
from brain_lightning.parts.checkpoints.torch_hooks import load_plain


def average_state_dicts(state_dicts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean of each tensor over the state dicts, which stay as they are.

    Summed in the order given, then divided. At most two state dicts are held in memory when an
    iterator is given. Integer tensors become floating point, as in SpeechBrain.

    Raises:
        ValueError: there are none, or they do not have the same keys.
    """
    iterator = iter(state_dicts)
    first = next(iterator, None)
    if first is None:
        raise ValueError("No state dicts to average.")
    total = copy.copy(first)  # keeps the kind of dict, and the versions a module puts beside it
    total.update({key: value.data.clone() for key, value in first.items()})
    del first
    count = 1
    with torch.no_grad():
        for state_dict in iterator:
            _add(total, state_dict, count)
            count += 1
        for key, value in total.items():
            total[key] = value.data / float(count)
    return total


def _add(total: dict[str, Any], state_dict: dict[str, Any], index: int) -> None:
    different = sorted(total.keys() ^ state_dict.keys())
    if different:
        raise ValueError(
            f"State dict {index} cannot be averaged with the first: only one of them has "
            f"{', '.join(map(repr, different))}."
        )
    for key, value in state_dict.items():
        total[key] += value.data


def average_checkpoints(
    checkpoint_list: Iterable[Checkpoint],
    recoverable_name: str,
    parameter_loader: Callable[..., Any] = torch.load,
    averager: Callable[[Iterator[Any]], Any] = average_state_dicts,
) -> Any:
    """Average one recoverable's parameters over checkpoints.

    Args:
        checkpoint_list: what ``find_checkpoints`` returned, for instance.
        recoverable_name: whose parameters.
        parameter_loader: called with a path and ``map_location="cpu"``; the default reads tensors
            and plain values only.
        averager: function of an iterator over what was loaded, old key names brought up to date.

    Returns:
        What the averager returns: by default a state dict on the CPU.

    Raises:
        MissingParametersError: a checkpoint has no file for the recoverable.
        CheckpointError: a checkpoint has a damaged file for it.
    """
    load = load_plain_on if parameter_loader is torch.load else parameter_loader
    paths = [_file_of(checkpoint, recoverable_name) for checkpoint in checkpoint_list]
    loaded = (load(path, map_location="cpu") for path in paths)
    return averager(hook_on_loading_state_dict_checkpoint(state_dict) for state_dict in loaded)


def load_plain_on(path: Path, map_location: str) -> Any:
    """``torch.load`` without running code from the file, whatever the version of torch."""
    return load_plain(path, map_location)


def _file_of(checkpoint: Checkpoint, name: str) -> Path:
    if name not in checkpoint.paramfiles:
        raise MissingParametersError(
            f"The checkpoint {checkpoint.path} has no file for the recoverable {name!r}; it has "
            f"{sorted(checkpoint.paramfiles)}."
        )
    path = Path(checkpoint.paramfiles[name])
    require_whole_file(path)
    return path
