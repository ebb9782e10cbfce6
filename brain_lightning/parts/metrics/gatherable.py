"""register_gatherable: how what a recipe accumulates becomes one from several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Gather = Callable[[Any, Sequence[Any]], None]


@dataclass(frozen=True)
class Gathering:
    """What is known about the attributes of a class."""

    sums: frozenset[str] = field(default_factory=frozenset)
    last: frozenset[str] = field(default_factory=frozenset)
    ignored: frozenset[str] = field(default_factory=frozenset)
    gather: Gather | None = None

    def joined_with(self, other: Gathering) -> Gathering:
        """This and what is known of a base class."""
        return Gathering(
            self.sums | other.sums,
            self.last | other.last,
            self.ignored | other.ignored,
            self.gather or other.gather,
        )


_NOTHING = Gathering()
_registered: dict[type, Gathering] = {}
_OF_SPEECHBRAIN = {
    "AccuracyStats": Gathering(sums=frozenset({"correct", "total"})),
    # The length that it is used with first, which it then holds its labels to.
    "CategoricalEncoder": Gathering(ignored=frozenset({"expected_len"})),
}
"""Classes of an installed SpeechBrain by name; only the entry layer imports it."""


def register_gatherable(
    cls: type,
    gather: Gather | None = None,
    *,
    sums: Iterable[str] = (),
    last: Iterable[str] = (),
    ignored: Iterable[str] = (),
) -> None:
    """Say how what a class accumulates in an evaluation is gathered with ``shard_evaluation``.

    The class is that of a statistic which a recipe keeps on the Brain or in its hparams, or the
    Brain itself. Lists and dictionaries that only grow need no registration: they are put together
    in the order of the data. Subclasses inherit what is registered. A second call for a class adds
    to the first.

    Args:
        cls: the class.
        gather: ``gather(object, copies)`` makes ``object`` what one process would have, from the
            ``copies`` that all processes have, in the order of their ranks; nothing else of the
            object is looked at. What was in it before the stage, and the first one or two batches,
            which every process evaluates, are in every copy: an object that is not empty when the
            batches begin cannot be gathered like this without knowing of that.
        sums: attributes that each batch adds to: numbers and tensors.
        last: attributes whose value is that of the last batch.
        ignored: attributes that nothing depends on; each process keeps its own value.

    Raises:
        TypeError: ``cls`` is no class, or an attribute's name no string.
        ValueError: nothing is said, or an attribute is in two of the groups.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_gatherable takes a class, got {cls!r}: give type(object).")
    groups = {"sums": _names(sums), "last": _names(last), "ignored": _names(ignored)}
    if gather is None and not any(groups.values()):
        raise ValueError(
            f"register_gatherable({cls.__name__}) says nothing: give gather, sums, last or ignored."
        )
    gathering = Gathering(**groups, gather=gather).joined_with(_registered.get(cls, _NOTHING))
    _require_one_group(cls, gathering)
    _registered[cls] = gathering


def _names(names: Iterable[str]) -> frozenset[str]:
    if isinstance(names, str):
        return frozenset({names})
    found = frozenset(names)
    for name in found:
        if not isinstance(name, str):
            raise TypeError(f"register_gatherable takes names of attributes, got {name!r}.")
    return found


def _require_one_group(cls: type, gathering: Gathering) -> None:
    groups = (gathering.sums, gathering.last, gathering.ignored)
    twice = {name for group in groups for name in group if sum(name in each for each in groups) > 1}
    if twice:
        raise ValueError(
            f"register_gatherable({cls.__name__}): {', '.join(sorted(twice))} would be gathered in "
            "two ways. Name each attribute in one of sums, last and ignored."
        )


def gathering_of(value: object) -> Gathering:
    """Return what is registered for an object's class and its base classes."""
    found = _NOTHING
    for cls in type(value).__mro__:
        known = _registered.get(cls)
        if known is None and cls.__module__.split(".")[0] == "speechbrain":
            known = _OF_SPEECHBRAIN.get(cls.__name__)
        if known is not None:
            found = found.joined_with(known)
    return found
