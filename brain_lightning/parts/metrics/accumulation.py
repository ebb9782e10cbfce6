"""What each batch of an evaluation adds to a recipe's state, and how the parts become one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torchmetrics import Metric

from brain_lightning.parts.metrics.changes import ungatherable_changes
from brain_lightning.parts.metrics.gatherable import gathering_of
from brain_lightning.parts.metrics.plain_values import equals
from brain_lightning.parts.metrics.state_tree import (
    Kind,
    Path,
    Slots,
    StateTree,
    name_of,
)
from brain_lightning.parts.metrics.torchmetrics_states import (
    KeptApart,
    copied_state,
    empty_tensors,
    list_states,
    reduce_tensors,
    set_state,
)

Numbered: TypeAlias = list[tuple[int, Any]]
"""(number of the batch, what it added)"""


class GatheringError(ValueError):
    """What the processes accumulated cannot be put together."""


@dataclass
class Share:
    """What one process accumulated in the batches that it alone evaluated."""

    problems: list[str] = field(default_factory=list)
    growth: dict[Path, Numbered] = field(default_factory=dict)
    sums: dict[Path, Numbered] = field(default_factory=dict)
    last: dict[Path, tuple[int, Any]] = field(default_factory=dict)
    objects: dict[Path, Any] = field(default_factory=dict)


class _Growing:
    """A list or a dictionary that batches add to."""

    def __init__(self, path: Path, value: Any) -> None:
        self.path = path
        self.start = self.end = len(value)
        self.ranges: list[tuple[int, int, int]] = []
        self._tip = _tip(value)

    def note(self, value: Any, number: int, is_padding: bool) -> bool:
        """Note what batch ``number`` added; return whether it only added."""
        end = len(value) if isinstance(value, (list, dict)) else -1
        if end < self.end or not self._still_has_tip(value):
            return False
        if not is_padding and end > self.end:
            self.ranges.append((number, self.end, end))
        self.end, self._tip = end, _tip(value)
        return True

    def _still_has_tip(self, value: Any) -> bool:
        if not isinstance(value, list) or not self.end:
            return True
        item = value[self.end - 1]
        return item is self._tip or equals(item, self._tip)

    def pieces(self, value: Any) -> Numbered:
        """Return what each batch added."""
        items = value if isinstance(value, list) else list(value.items())
        return [(number, items[start:end]) for number, start, end in self.ranges]


def _tip(value: Any) -> Any:
    return value[-1] if isinstance(value, list) and value else None


class Accumulation:
    """Watches what batches add, and puts together what several processes have.

    Order of calls: ``start``; ``look`` after each of the first batches, which every process
    evaluates; if nothing spoke against it ``share``; ``before_batch`` and ``after_batch`` around
    each further one; ``own_share``, ``join``; ``release`` when nothing of the stage is asked for
    any more.

    A list or dictionary may grow, a registered sum be added to, a metric of torchmetrics be
    updated. Anything else that changes speaks against sharing.
    """

    def __init__(self, tree: StateTree) -> None:
        """Watch ``tree``; nothing is looked at yet."""
        self._tree = tree
        self._base: Slots = {}
        self._looks = 0
        self._growing: list[_Growing] = []
        self._registered: dict[Path, Kind] = {}
        self._at_start: dict[Path, Any] = {}
        self._values: dict[Path, Any] = {}
        self._share = Share()
        self._kept_apart: KeptApart | None = None
        self._before_padding: list[tuple[Any, Any]] = []

    # -- the first batches -----------------------------------------------------------------------

    def start(self) -> None:
        """Take down what there is before the first batch."""
        self._base = self._tree.look()
        self._kept_apart = KeptApart(metric for _, metric in self._metrics())

    def look(self) -> list[str]:
        """Look what a batch changed; return what cannot be gathered, as parts of a sentence."""
        now = self._tree.look()
        problems = ungatherable_changes(self._base, now, births_allowed=self._looks == 0)
        self._base = now
        self._looks += 1
        return problems

    def outline(self) -> list[str]:
        """Return the names of all that is gathered, to see that it is the same everywhere."""
        kinds = (Kind.LIST, Kind.DICT, Kind.METRIC, Kind.OBJECT)
        return [name_of(path) for path, slot in self._base.items() if slot.kind in kinds]

    # -- a process's own batches -----------------------------------------------------------------

    def share(self, starts_empty: bool) -> None:
        """Begin to note what each batch adds.

        Args:
            starts_empty: another process keeps what metrics have seen so far.
        """
        self.release()
        self._kept_apart = KeptApart(metric for _, metric in self._metrics())
        for _, metric in self._metrics():
            if starts_empty:
                empty_tensors(metric)
        self._growing = [_Growing(path, self._tree.resolve(path)) for path in self._lists()]
        self._registered = self._tree.registered(self._base)
        for path, kind in self._registered.items():
            if kind is Kind.SUM:
                self._at_start[path] = self._values[path] = copy.deepcopy(self._value(path))

    def _metrics(self) -> list[tuple[Path, Metric]]:
        return [(p, slot.value) for p, slot in self._base.items() if slot.kind is Kind.METRIC]

    def _lists(self) -> list[Path]:
        found = [p for p, slot in self._base.items() if slot.kind in (Kind.LIST, Kind.DICT)]
        for path, metric in self._metrics():
            found += [(*path, ("attribute", name)) for name in list_states(metric)]
        return found

    def _objects(self) -> list[tuple[Path, Any]]:
        return [(p, slot.value) for p, slot in self._base.items() if slot.kind is Kind.OBJECT]

    def _value(self, path: Path) -> Any:
        try:
            return self._tree.resolve(path)
        except LookupError:
            return None

    def before_batch(self, is_padding: bool) -> None:
        """Take down what a batch that does not count must not change."""
        if is_padding:
            self._before_padding = [
                *((metric, copied_state(metric)) for _, metric in self._metrics()),
                *((value, copy.deepcopy(vars(value))) for _, value in self._objects()),
            ]

    def after_batch(self, number: int, is_padding: bool) -> None:
        """Note what batch ``number`` added, or take back what a padding batch did."""
        for each in self._growing:
            if not each.note(self._value(each.path), number, is_padding):
                problem = f"{name_of(each.path)} (changed otherwise than by growing)"
                self._share.problems.append(problem)
        for path, kind in self._registered.items():
            self._note_value(path, kind, number, is_padding)
        for value, state in self._before_padding:
            if isinstance(value, Metric):
                set_state(value, state)
            else:
                vars(value).update(state)
        self._before_padding = []

    def _note_value(self, path: Path, kind: Kind, number: int, is_padding: bool) -> None:
        value = copy.deepcopy(self._value(path))
        if kind is Kind.LAST:
            if not is_padding:
                self._share.last[path] = (number, value)
            return
        before, self._values[path] = self._values[path], value
        if value is not None and not is_padding:
            added = value if before is None else value - before
            self._share.sums.setdefault(path, []).append((number, added))

    # -- the end of the stage --------------------------------------------------------------------

    def own_share(self) -> Share:
        """Return what this process adds, and what speaks against it."""
        share = self._share
        now = self._tree.look(known=self._base)
        share.problems += ungatherable_changes(self._base, now, births_allowed=False)
        for each in self._growing:
            value = self._value(each.path)
            if each.ranges and isinstance(value, (list, dict)):
                share.growth[each.path] = each.pieces(value)
        share.objects = dict(self._objects())
        return share

    def join(self, shares: Sequence[Share], own: int, gather: Callable[[Any], list[Any]]) -> None:
        """Give everything the value that it would have in one process.

        Args:
            shares: of all processes, in the order of their ranks.
            own: which of them is this process's.
            gather: returns an object of every process.

        Raises:
            GatheringError: it cannot be done; what is in which attribute is then undefined.
        """
        problems = {problem for share in shares for problem in share.problems}
        if problems:
            raise GatheringError("; ".join(sorted(problems)))
        # This process's own objects stay the ones that they are.
        parts = [*shares[:own], self._share, *shares[own + 1 :]]
        for each in sorted(self._growing, key=lambda each: len(each.path)):
            pieces = _in_order(part.growth.get(each.path, []) for part in parts)
            self._put_together(each, pieces)
        for path, kind in self._registered.items():
            self._set_registered(path, kind, parts)
        for path, value in self._objects():
            function = gathering_of(value).gather
            assert function is not None
            function(value, [share.objects[path] for share in shares])
        for _, metric in self._metrics():
            reduce_tensors(metric, gather)

    def _put_together(self, growing: _Growing, pieces: Sequence[Any]) -> None:
        value = self._tree.resolve(growing.path)
        items = [item for piece in pieces for item in piece]
        if isinstance(value, list):
            value[growing.start :] = items
            return
        for key in list(value)[growing.start :]:
            del value[key]
        for key, item in items:
            if key in value and not equals(value[key], item):
                name = name_of((*growing.path, ("key", key)))
                raise GatheringError(f"{name} (set by several batches)")
            value[key] = item

    def _set_registered(self, path: Path, kind: Kind, parts: Sequence[Share]) -> None:
        if kind is Kind.LAST:
            values = [part.last[path] for part in parts if path in part.last]
            if values:
                self._tree.assign(path, max(values, key=lambda pair: pair[0])[1])
            return
        total = self._at_start[path]
        for piece in _in_order(part.sums.get(path, []) for part in parts):
            total = piece if total is None else total + piece
        if total is not None:
            self._tree.assign(path, total)

    def release(self) -> None:
        """Let metrics exchange their states by themselves again."""
        if self._kept_apart is not None:
            self._kept_apart.release()
            self._kept_apart = None


def _in_order(parts: Iterable[Numbered]) -> list[Any]:
    """Return what all batches added, in the order of the batches."""
    numbered = [pair for part in parts for pair in part]
    return [piece for _, piece in sorted(numbered, key=lambda pair: pair[0])]
