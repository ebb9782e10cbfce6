"""What a recipe keeps on its Brain and in its hparams, as far as batches may change it."""

from __future__ import annotations

import functools
import inspect
import io
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torchmetrics import Metric

from brain_lightning.parts.metrics.gatherable import gathering_of
from brain_lightning.parts.metrics.plain_values import copied

Step: TypeAlias = tuple[str, Any]
"""("attribute", name), ("key", key) or ("index", number)."""
Path: TypeAlias = tuple[Step, ...]

DEEPEST = 6
LONGEST_DICT = 256
LONGEST_LIST = 32
"""Elements up to which is looked into them; of a longer container only which ones it has."""

# They have states of their own, which an evaluation does not accumulate in.
_OPAQUE = (
    type,
    torch.optim.Optimizer,
    torch.optim.lr_scheduler.LRScheduler,
    DataLoader,
    Dataset,
    Sampler,
    torch.Generator,
    torch.nn.Parameter,
    logging.Logger,
    logging.LoggerAdapter,
    functools.partial,
)
_VALUES = (*_OPAQUE, torch.Tensor, tuple, Enum, io.IOBase)


class Kind(Enum):
    """How a value is gathered."""

    LIST = "list"
    DICT = "dict"
    NODE = "object with attributes"
    PLAIN = "value"
    SUM = "sum"
    LAST = "last"
    METRIC = "metric"
    OBJECT = "object that is gathered by a registered function"


@dataclass(frozen=True)
class Slot:
    """A value at some path, and what it was like when it was looked at."""

    kind: Kind
    value: Any
    copy: Any


Slots: TypeAlias = dict[Path, Slot]


class StateTree:
    """Walks through everything that is reachable from some objects' attributes.

    Args:
        roots: name -> object, such as ``"self"`` -> the Brain.
        skipped: attributes of the roots that are somebody else's business.
    """

    def __init__(self, roots: Mapping[str, Any], skipped: frozenset[str]) -> None:
        """Know the roots; nothing is looked at yet."""
        self.roots = dict(roots)
        self._skipped = skipped

    def look(self, known: Slots | None = None) -> Slots:
        """Return what there is now.

        Args:
            known: look into the elements that lists and dictionaries had then, and not into more.
        """
        slots: Slots = {}
        seen: set[int] = set()
        for name, root in self.roots.items():
            for path, slot in self._visit((("root", name),), root, known, seen):
                slots[path] = slot
        return slots

    def resolve(self, path: Path) -> Any:
        """Return the value at a path.

        Raises:
            LookupError: there is none any more.
        """
        value: Any = None
        for kind, key in path:
            if kind == "root":
                value = self.roots[key]
            elif kind == "attribute":
                try:
                    value = getattr(value, key)
                except AttributeError as error:
                    raise LookupError(name_of(path)) from error
            else:
                try:
                    value = value[key]
                except (LookupError, TypeError) as error:
                    raise LookupError(name_of(path)) from error
        return value

    def assign(self, path: Path, value: Any) -> None:
        """Put a value at a path that ends with an attribute."""
        setattr(self.resolve(path[:-1]), path[-1][1], value)

    def _visit(
        self, path: Path, value: Any, known: Slots | None, seen: set[int]
    ) -> Iterator[tuple[Path, Slot]]:
        if isinstance(value, torch.nn.Module):
            yield from _metrics_in(path, value, seen)
        elif _is_container(value):
            if id(value) in seen or len(path) > DEEPEST:
                return
            seen.add(id(value))
            yield path, _slot_of(value)
            for step, below in self._below(path, value, known):
                yield from self._visit((*path, step), below, known, seen)
        else:
            yield path, Slot(Kind.PLAIN, value, copied(value))
            if isinstance(value, tuple) and len(path) <= DEEPEST:
                for index, item in enumerate(value[:LONGEST_LIST]):
                    if _is_container(item) or isinstance(item, (tuple, torch.nn.Module)):
                        yield from self._visit((*path, ("index", index)), item, known, seen)

    def _below(self, path: Path, value: Any, known: Slots | None) -> Iterator[tuple[Step, Any]]:
        """The elements that are containers, or all attributes that are not registered as such."""
        before = None if known is None else known.get(path)
        if isinstance(value, list):
            count = len(value) if before is None else min(len(value), len(before.copy))
            if count <= LONGEST_LIST:
                for index in range(count):
                    if _holds_state(value[index]):
                        yield ("index", index), value[index]
        elif isinstance(value, dict):
            keys = list(value) if before is None else [key for key in before.copy if key in value]
            if len(keys) <= LONGEST_DICT:
                for key in keys:
                    if _holds_state(value[key]):
                        yield ("key", key), value[key]
        elif gathering_of(value).gather is None:
            yield from self._attributes(path, value)

    def _attributes(self, path: Path, value: Any) -> Iterator[tuple[Step, Any]]:
        gathering = gathering_of(value)
        passed_over = gathering.ignored | gathering.sums | gathering.last
        if len(path) == 1:
            passed_over |= self._skipped
        for name, below in list(vars(value).items()):
            if name not in passed_over:
                yield ("attribute", name), below

    def registered(self, slots: Slots) -> dict[Path, Kind]:
        """Return the attributes of what was found that are registered as sums or last values."""
        found = {}
        for path, slot in slots.items():
            if slot.kind is not Kind.NODE:
                continue
            gathering = gathering_of(slot.value)
            for names, kind in ((gathering.sums, Kind.SUM), (gathering.last, Kind.LAST)):
                for name in names:
                    attribute = (*path, ("attribute", name))
                    found[attribute] = kind
        return found


def _slot_of(value: Any) -> Slot:
    if isinstance(value, list):
        return Slot(Kind.LIST, value, list(value))
    if isinstance(value, dict):
        return Slot(Kind.DICT, value, dict(value))
    if gathering_of(value).gather is not None:
        return Slot(Kind.OBJECT, value, None)
    return Slot(Kind.NODE, value, None)


def _holds_state(value: Any) -> bool:
    return _is_container(value) or isinstance(value, (tuple, torch.nn.Module))


def _is_container(value: Any) -> bool:
    if isinstance(value, (list, dict)):
        return True
    if isinstance(value, _VALUES) or hasattr(value, "recoverables"):
        return False
    if inspect.isroutine(value) or inspect.ismodule(value):
        return False
    return isinstance(getattr(value, "__dict__", None), dict)


def _metrics_in(path: Path, module: torch.nn.Module, seen: set[int]) -> Iterator[tuple[Path, Slot]]:
    for name, part in module.named_modules():
        if isinstance(part, Metric) and id(part) not in seen:
            seen.add(id(part))
            below = tuple(("attribute", each) for each in name.split(".") if each)
            yield (*path, *below), Slot(Kind.METRIC, part, None)


def name_of(path: Path) -> str:
    """Return how a recipe would write it: ``self.hparams.stats['wer'].scores``."""
    name = ""
    for kind, key in path:
        if kind == "root":
            name = key
        else:
            name += f".{key}" if kind == "attribute" else f"[{key!r}]"
    return name
