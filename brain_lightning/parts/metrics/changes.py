"""Which changes between two looks at a recipe's state cannot be gathered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from brain_lightning.parts.metrics.plain_values import equals, is_same
from brain_lightning.parts.metrics.state_tree import Kind, Path, Slot, Slots, name_of

_GATHERED_OTHERWISE = (Kind.METRIC, Kind.OBJECT)


def ungatherable_changes(before: Slots, after: Slots, births_allowed: bool) -> list[str]:
    """Return a sentence part for each attribute that was changed otherwise than by growing.

    Args:
        before: an earlier look.
        after: a later one.
        births_allowed: whether an attribute may have come into being in between, or have got its
            first value.
    """
    problems = []
    for path, slot in after.items():
        reason = _problem(path, before, slot, births_allowed)
        if reason is not None:
            problems.append(f"{name_of(path)} ({reason})")
    return problems


def _problem(path: Path, before: Slots, slot: Slot, births_allowed: bool) -> str | None:
    if slot.kind in _GATHERED_OTHERWISE:
        return None if births_allowed or path in before else "made after the first batches"
    earlier = before.get(path)
    if earlier is None or (earlier.kind is Kind.PLAIN and earlier.value is None):
        return _problem_of_born(path, before, earlier, slot, births_allowed)
    if earlier.kind is not slot.kind:
        return f"a {earlier.kind.value} became a {slot.kind.value}"
    return _COMPARED[slot.kind](earlier, slot)


def _problem_of_born(
    path: Path, before: Slots, earlier: Slot | None, slot: Slot, births_allowed: bool
) -> str | None:
    if earlier is not None and slot.kind is Kind.PLAIN:
        return None if slot.value is None else "set to another value"
    if earlier is None and not _is_attribute_of_known(path, before):
        return None  # a part of something that is new itself
    if slot.kind is Kind.PLAIN:
        return "set by a batch"
    return None if births_allowed else "made after the first batches"


def _is_attribute_of_known(path: Path, before: Slots) -> bool:
    owner = before.get(path[:-1])
    return path[-1][0] == "attribute" and owner is not None and owner.kind is Kind.NODE


def _compare_lists(earlier: Slot, slot: Slot) -> str | None:
    before, now = earlier.copy, slot.copy
    if len(now) >= len(before) and all(map(_is_kept, now, before)):
        return None
    return "changed otherwise than by appending"


def _compare_dicts(earlier: Slot, slot: Slot) -> str | None:
    before, now = earlier.copy, slot.copy
    if all(key in now and _is_kept(now[key], before[key]) for key in before):
        return None
    return "changed otherwise than by new keys"


def _is_kept(now: Any, before: Any) -> bool:
    return now is before or equals(now, before)


def _compare_objects(earlier: Slot, slot: Slot) -> str | None:
    return None if slot.value is earlier.value else "replaced by another object"


def _compare_values(earlier: Slot, slot: Slot) -> str | None:
    same = is_same(slot.value, earlier.value, earlier.copy)
    return None if same else "set to another value"


_COMPARED: dict[Kind, Callable[[Slot, Slot], str | None]] = {
    Kind.LIST: _compare_lists,
    Kind.DICT: _compare_dicts,
    Kind.NODE: _compare_objects,
    Kind.PLAIN: _compare_values,
}
