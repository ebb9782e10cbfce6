"""How far objects have come that a recipe uses in training and gives to no checkpointer.

SpeechBrain's speaker recipes anneal the learning rate by ``hparams.lr_annealing``, and do not save
it: after a resume it would begin its first cycle again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.plain_trees import from_plain, to_plain
from brain_lightning.parts.checkpoints.hooks import DEFAULT_SAVE_HOOKS, get_default_hook
from brain_lightning.parts.metrics.plain_values import equals

_LONGEST = 64
"""Items of a list up to which objects are looked for in it; recipes keep whole data sets."""
# Others save them, or they are large; what counts epochs is asked by the loop.
_OTHERS = (torch.nn.Module, torch.optim.Optimizer, torch.amp.GradScaler, DataLoader, Iterator)


class UnsavedProgress:
    """Attributes of objects with a checkpoint hook in hparams and on the Brain: what changed.

    That is what could be saved, is no recoverable, and is no module or optimizer: schedulers.
    """

    def __init__(self, brain: BrainProtocol) -> None:
        """Take down what there is before training."""
        self._before = {
            (path, name): _frozen(value)
            for path, found in _objects(brain)
            for name, value in vars(found).items()
        }

    def changed(self, brain: BrainProtocol) -> dict[str, dict[str, Any]]:
        """Return object's path -> attribute -> value, as far as a file can hold it."""
        state: dict[str, dict[str, Any]] = {}
        for path, found in _objects(brain):
            for name, value in vars(found).items():
                before = self._before.get((path, name), _ABSENT)
                if equals(_frozen(value), before):
                    continue
                try:
                    state.setdefault(path, {})[name] = to_plain(value)
                except TypeError:  # an optimizer, a function: they are the new run's own
                    continue
        return state


def restore_progress(brain: BrainProtocol, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Set what :meth:`UnsavedProgress.changed` returned in the objects that are there."""
    present = dict(_objects(brain))
    for path, attributes in state.items():
        for name, value in attributes.items() if path in present else ():
            setattr(present[path], name, from_plain(value, brain.device))


_ABSENT = object()


def _objects(brain: BrainProtocol) -> Iterator[tuple[str, Any]]:
    recoverables = getattr(brain.checkpointer, "recoverables", {})
    seen = {id(each) for each in recoverables.values()}
    hparams = getattr(brain, "hparams", None)
    yield from _within(getattr(hparams, "__dict__", {}), "hparams", seen)
    yield from _within(vars(brain), "brain", seen)


def _within(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, (list, tuple)) and len(value) <= _LONGEST:
        items = list(enumerate(value))
    else:
        return
    for key, each in items:
        if id(each) in seen:
            continue
        if _keeps_progress(each):
            seen.add(id(each))
            yield f"{path}.{key}", each
            yield from _within(vars(each), f"{path}.{key}", seen)
        elif type(each) in (dict, list, tuple):
            seen.add(id(each))
            yield from _within(each, f"{path}.{key}", seen)


def _keeps_progress(each: object) -> bool:
    if isinstance(each, (*_OTHERS, type)) or not hasattr(each, "__dict__"):
        return False
    return get_default_hook(each, DEFAULT_SAVE_HOOKS) is not None


def _frozen(value: Any) -> Any:
    """Return a value that shows later whether this one was changed in place."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(each) for each in value)
    if type(value) is dict:
        return tuple((key, _frozen(each)) for key, each in value.items())
    return value
