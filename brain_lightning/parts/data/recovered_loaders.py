"""Loaders that recover wait, in a fit, until it is known how the fit goes on.

A resumed run goes on as the interrupted one would have. A fit that recovers what its own script has
saved is none: it goes on as in SpeechBrain, whose loaders take no more from a checkpoint than the
number of batches. Which of the two it is, only the Brain knows, and it may recover after them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_Take = Callable[[Mapping[str, Any] | None], None]


class RecoveredLoaders:
    """The loaders that have recovered in a fit that begins."""

    def __init__(self) -> None:
        """There is none yet."""
        self._waiting: dict[int, tuple[_Take, Mapping[str, Any] | None]] = {}

    def hold(self, loader: object, take: _Take, state: Mapping[str, Any] | None) -> None:
        """Let ``loader`` wait; what it has recovered before counts no more."""
        self._waiting[id(loader)] = (take, state)

    def take_now(self, loader: object) -> None:
        """Let ``loader`` take all that it recovered, if it waits: it is used already."""
        take, state = self._waiting.pop(id(loader), (None, None))
        if take is not None:
            take(state)

    def go_on(self, exactly: bool) -> None:
        """Let them take what they recovered: all of it, or what SpeechBrain's would."""
        waiting, self._waiting = self._waiting, {}
        for take, state in waiting.values():
            take(state if exactly else None)


_fits: list[RecoveredLoaders] = []
"""The fits that are beginning, the innermost last."""


@contextmanager
def loaders_wait() -> Iterator[RecoveredLoaders]:
    """Within the block, loaders that recover wait for :meth:`RecoveredLoaders.go_on`."""
    _fits.append(RecoveredLoaders())
    try:
        yield _fits[-1]
    finally:
        _fits.pop()


def take_recovered(loader: object, take: _Take, state: Mapping[str, Any] | None) -> None:
    """Call ``take`` with ``state``, or with None, as soon as it is known which.

    Args:
        loader: what has recovered.
        take: goes on from a state; from None as SpeechBrain's loader does.
        state: what our file beside SpeechBrain's has, if there is one.
    """
    if _fits:
        _fits[-1].hold(loader, take, state)
    else:
        take(state)


def wait_no_longer(loader: object) -> None:
    """Let ``loader`` take what it recovered before it is iterated or saved."""
    for fit in _fits:
        fit.take_now(loader)
