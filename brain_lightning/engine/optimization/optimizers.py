"""Which optimizers a Brain has, for the callbacks that ask the Trainer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.hyperparameters import hyperparameters_of

_LONGEST = 64
"""Items of a list up to which optimizers are looked for in it; recipes keep whole data sets."""


def discover_optimizers(brain: BrainProtocol) -> list[Optimizer]:
    """Return every optimizer that can be found on a Brain, each once, in a stable order.

    First ``optimizers_dict``, then attributes of the Brain, then what its checkpointer saves:
    recipes that create optimizers of their own often tell only one of the three.
    """
    found: dict[int, Optimizer] = {}
    for candidate in _candidates(brain):
        if isinstance(candidate, Optimizer):
            found.setdefault(id(candidate), candidate)
    return list(found.values())


def named_optimizers(brain: BrainProtocol) -> dict[str, Optimizer]:
    """Return where an optimizer is -> the optimizer, each once; in a new process it is there too.

    In ``optimizers_dict``, on the Brain or in its hyperparameters, or in lists and dictionaries
    that these hold.
    """
    found: dict[int, tuple[str, Optimizer]] = {}
    homes = {
        "optimizers_dict": brain.optimizers_dict,
        "brain": vars(brain),
        "hparams": hyperparameters_of(brain),
    }
    for home, values in homes.items():
        for name, value in values.items() if isinstance(values, Mapping) else ():
            for path, optimizer in _held(value, f"{home}.{name}"):
                found.setdefault(id(optimizer), (path, optimizer))
    return dict(found.values())


def _held(value: Any, path: str) -> Iterator[tuple[str, Optimizer]]:
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Optimizer):
        yield path, value
    elif isinstance(value, dict) and len(value) <= _LONGEST:
        items = list(value.items())
    elif isinstance(value, (list, tuple)) and len(value) <= _LONGEST:
        items = enumerate(value)
    for key, each in items:
        if isinstance(each, Optimizer):
            yield f"{path}.{key}", each


def discover_schedulers(brain: BrainProtocol, optimizers: Iterable[Optimizer]) -> list[LRScheduler]:
    """Return torch's LR schedulers of these optimizers that can be found on a Brain.

    Callbacks see them in ``trainer.lr_scheduler_configs``; the recipe steps them.
    """
    known = {id(optimizer) for optimizer in optimizers}
    found: dict[int, LRScheduler] = {}
    for candidate in [*_candidates(brain), *hyperparameters_of(brain).values()]:
        if isinstance(candidate, LRScheduler) and id(candidate.optimizer) in known:
            found.setdefault(id(candidate), candidate)
    return list(found.values())


def set_learning_rate(optimizers: Iterable[Optimizer], value: float) -> None:
    """Set the learning rate of every parameter group."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = value


def leave_out_frozen(optimizers: Iterable[Optimizer]) -> None:
    """Take parameters that need no gradient out of the optimizers.

    A callback of Lightning's that unfreezes them adds them as a group of their own.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [each for each in group["params"] if each.requires_grad]


def _candidates(brain: BrainProtocol) -> Iterator[Any]:
    if isinstance(brain.optimizers_dict, Mapping):
        yield from brain.optimizers_dict.values()
    yield from vars(brain).values()
    recoverables = getattr(brain.checkpointer, "recoverables", None)
    if isinstance(recoverables, Mapping):
        yield from recoverables.values()
