"""Weights, buffers and optimizers that training changes and no recoverable saves.

SpeechBrain's recipes with several optimizers often save none of them, and some keep a module that
nothing saves: after a resume moments and batch statistics would begin anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.plain_trees import is_plain
from brain_lightning.engine.checkpoints.wrapped_entries import unwrapped
from brain_lightning.engine.optimization.optimizers import named_optimizers
from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.sharded_tensors import is_sharded_tensor
from brain_lightning.ground.torch_internals import buffers_left_out
from brain_lightning.parts.checkpoints.sharded_states import (
    is_sharded,
    loadable_state,
    shard_if_whole,
    whole_state,
)

logger = get_logger(__name__)

_State = dict[str, dict[str, Any]]
_PARTS = 256
"""Sums in the digest of a large tensor."""


class UnsavedTraining:
    """What of a Brain's modules and optimizers is in no recoverable, and has changed since.

    A frozen module that nobody saves, as large as it may be, has not. Where there is no
    checkpointer, Lightning's checkpoints have it all.
    """

    def __init__(self, brain: BrainProtocol) -> None:
        """Take down what there is before training."""
        self._before = {name: _digest(each) for name, each in _unsaved_tensors(brain).items()}
        self._said: set[str] = set()

    def state(self, brain: BrainProtocol, sharded: _State | None = None) -> _State:
        """Return what :func:`restore_training` takes; empty where recoverables save everything.

        Args:
            brain: the recipe.
            sharded: what all processes have gathered before, by :meth:`sharded_state`.
        """
        optimizers = {
            path: _entry(each, each.state_dict())
            for path, each in _unsaved_optimizers(brain).items()
            if not is_sharded(each)
        }
        tensors = {
            name: each.detach()
            for name, each in _unsaved_tensors(brain).items()
            if not is_sharded_tensor(each) and _digest(each) != self._before.get(name, ())
        }
        gathered = sharded or {"optimizers": {}, "tensors": {}}
        state = {
            "optimizers": self._as_far_as_plain({**optimizers, **gathered["optimizers"]}),
            "tensors": {**tensors, **gathered["tensors"]},
        }
        return state if any(state.values()) else {}

    def _as_far_as_plain(self, entries: dict[str, Any]) -> dict[str, Any]:
        refused = [path for path, entry in entries.items() if not is_plain(entry)]
        for path in refused:
            if path not in self._said:
                self._said.add(path)
                logger.warning(
                    "The optimizer %s begins anew after a resume: the recipe does not save it, "
                    "and its state_dict() has more than tensors and plain values.",
                    path,
                )
        return {path: entry for path, entry in entries.items() if path not in refused}

    @staticmethod
    def sharded_state(brain: BrainProtocol) -> _State:
        """Return what is sharded of it, whole, on the main process; all call this together."""
        optimizers = {
            path: _entry(each, whole_state(each.state_dict()))
            for path, each in _unsaved_optimizers(brain).items()
            if is_sharded(each)
        }
        # Whether a part has changed the processes would have to ask each other.
        tensors = {
            name: whole_state(each)
            for name, each in _unsaved_tensors(brain).items()
            if is_sharded_tensor(each) and each.requires_grad
        }
        return {"optimizers": optimizers, "tensors": tensors}


def restore_training(brain: BrainProtocol, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Set what :meth:`UnsavedTraining.state` returned, but what recoverables have loaded."""
    _restore_optimizers(brain, state.get("optimizers", {}))
    _restore_tensors(brain, state.get("tensors", {}))


def _restore_optimizers(brain: BrainProtocol, entries: Mapping[str, Any]) -> None:
    present, unsaved = named_optimizers(brain), _unsaved_optimizers(brain)
    for path, entry in entries.items():
        if path not in present:
            logger.warning("The checkpoint has an optimizer %s, which this run lacks.", path)
        elif path in unsaved and not _fits(entry, unsaved[path]):
            logger.warning(
                "The optimizer %s begins anew: in the checkpoint it is a %s, or steps other "
                "parameters.",
                path,
                entry["class"],
            )
        elif path in unsaved:
            unsaved[path].load_state_dict(loadable_state(entry["state"], unsaved[path]))


def _restore_tensors(brain: BrainProtocol, tensors: Mapping[str, torch.Tensor]) -> None:
    if not tensors:
        return
    present, unsaved = dict(_tensors(brain)), _unsaved_tensors(brain)
    for name, value in tensors.items():
        if name not in present or present[name].shape != value.shape:
            logger.warning(
                "The checkpoint has %s of shape %s in no recoverable, and this run lacks it.",
                name,
                tuple(value.shape),
            )
        elif name in unsaved:
            unsaved[name].detach().copy_(shard_if_whole(value, unsaved[name]))


def _recoverables(brain: BrainProtocol) -> list[object]:
    return list(getattr(brain.checkpointer, "recoverables", {}).values())


# -- optimizers --------------------------------------------------------------------------------


def _unsaved_optimizers(brain: BrainProtocol) -> dict[str, Optimizer]:
    if brain.checkpointer is None:
        return {}
    saved = {id(each) for each in _recoverables(brain)}
    return {path: each for path, each in named_optimizers(brain).items() if id(each) not in saved}


def _entry(optimizer: Optimizer, state: Any) -> dict[str, Any]:
    return {"class": _name_of_class(optimizer), "shapes": _shapes(optimizer), "state": state}


def _fits(entry: Mapping[str, Any], optimizer: Optimizer) -> bool:
    is_same_class = bool(entry["class"] == _name_of_class(optimizer))
    return is_same_class and bool(entry["shapes"] == _shapes(optimizer))


def _name_of_class(optimizer: Optimizer) -> str:
    return f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"


def _shapes(optimizer: Optimizer) -> list[list[list[int]]]:
    groups = optimizer.param_groups
    return [
        [[] if is_lazy(each) else list(each.shape) for each in group["params"]] for group in groups
    ]


# -- tensors -----------------------------------------------------------------------------------


def _unsaved_tensors(brain: BrainProtocol) -> dict[str, torch.Tensor]:
    """Return name -> tensor, each once."""
    if brain.checkpointer is None:
        return {}
    seen = set()
    for each in _recoverables(brain):
        if isinstance(each, torch.nn.Module):
            seen |= {id(tensor) for tensor in (*each.parameters(), *each.buffers())}
    found = {}
    for name, tensor in _tensors(brain):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor
    return found


def _tensors(brain: BrainProtocol) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield what the entries of ``modules`` would save, and what optimizers step besides."""
    for name, tensor in _all_tensors(brain):
        if not is_lazy(tensor):
            yield name, tensor


def _all_tensors(brain: BrainProtocol) -> Iterator[tuple[str, torch.Tensor]]:
    for key, entry in brain.modules.items():
        for prefix, part in unwrapped(entry).named_modules(prefix=key):
            yield from part.named_parameters(prefix, recurse=False)
            passing = buffers_left_out(part)
            for name, buffer in part.named_buffers(recurse=False):
                if name not in passing:
                    yield f"{prefix}.{name}", buffer
    for path, optimizer in named_optimizers(brain).items():
        for number, group in enumerate(optimizer.param_groups):
            for index, parameter in enumerate(group["params"]):
                yield f"{path}.{number}.{index}", parameter


def _digest(tensor: torch.Tensor) -> list[int] | None:
    """Return sums over parts of a tensor's bits: no copy is kept of what may be large.

    Of a small tensor these are its bytes. None of a tensor that has nothing to look at.
    """
    if is_sharded_tensor(tensor) or tensor.layout is not torch.strided or tensor.is_quantized:
        return None
    if tensor.numel() == 0 or tensor.device.type == "meta":
        return None
    octets = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    if octets.storage_offset() % 8:  # a part of another tensor
        octets = octets.clone()
    even = octets.numel() - octets.numel() % (8 * _PARTS)
    parts = octets[:even].view(torch.int64).view(_PARTS, -1).sum(1)
    numbers: list[int] = torch.cat([parts, octets[even:].to(torch.int64)]).tolist()
    return numbers
