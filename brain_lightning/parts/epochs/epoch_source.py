"""EpochSource: ask whether there is a further epoch before going into it."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any

_NOTHING_HELD = object()


class EpochSource:
    """What ``fit()`` was given to count epochs, with a question that has no side effect.

    An epoch counter (it has integers ``current`` and ``limit``, and perhaps ``should_stop``) is
    asked without being advanced: a checkpoint that is saved between :meth:`has_next` and
    :meth:`take` still finds the finished epoch in it. Only when it says that there is no further
    epoch it is iterated once more, as a ``for`` loop does: its class may have a ``__next__`` of its
    own. Of any other iterable one epoch may be taken ahead and held.

    Args:
        iterable: an epoch counter, a range, a list, a generator, ... of integers.

    Raises:
        TypeError: it cannot be iterated over.
    """

    def __init__(self, iterable: Iterable[int]) -> None:
        """Start the iteration, without taking anything from it."""
        try:
            self._epochs: Iterator[Any] = iter(iterable)
        except TypeError as error:
            raise TypeError(
                f"The epochs to train are {iterable!r}, which cannot be iterated over: give an "
                "EpochCounter, a range (range(1, 11) is ten epochs) or another iterable of "
                "integers."
            ) from error
        self._held: Any = _NOTHING_HELD
        self._has_ended = False

    def has_next(self) -> bool:
        """Whether there is a further epoch."""
        if self._held is not _NOTHING_HELD:
            return True
        if _is_epoch_counter(self._epochs):
            if _counter_goes_on(self._epochs):
                self._has_ended = False
                return True
            if self._has_ended:
                return False
        self._held = next(self._epochs, _NOTHING_HELD)
        self._has_ended = self._held is _NOTHING_HELD
        return not self._has_ended

    def upcoming(self) -> int | None:
        """The number that :meth:`take` would return, or None when there is no further epoch."""
        if not self.has_next():
            return None
        if self._held is not _NOTHING_HELD:
            return operator.index(self._held)
        return int(getattr(self._epochs, "current")) + 1  # noqa: B009 -- an Iterator has none

    def take(self) -> int:
        """Go into the next epoch and return its number.

        Raises:
            StopIteration: there is none.
            TypeError: what comes is no integer.
        """
        epoch, self._held = self._held, _NOTHING_HELD
        if epoch is _NOTHING_HELD:
            epoch = next(self._epochs)
        try:
            return operator.index(epoch)
        except TypeError as error:
            raise TypeError(
                f"The epochs to train must be integers, but {epoch!r} came from {self._epochs!r}."
            ) from error


def last_epoch_of(iterable: object) -> int | None:
    """The number of the last epoch, where an epoch counter, a range or a list says it."""
    if _is_epoch_counter(iterable):
        return int(iterable.limit)  # type: ignore[attr-defined]
    numbers = iterable if isinstance(iterable, (range, list, tuple)) else ()
    return int(numbers[-1]) if numbers else None


def _is_epoch_counter(epochs: Any) -> bool:
    return isinstance(getattr(epochs, "current", None), int) and isinstance(
        getattr(epochs, "limit", None), int
    )


def _counter_goes_on(counter: Any) -> bool:
    return counter.current < counter.limit and not getattr(counter, "should_stop", False)
