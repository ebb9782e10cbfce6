"""RemainingIndices: a sampler without the indices that have been used already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from brain_lightning.ground.caller_warnings import warn_caller


class RemainingIndices:
    """A sampler or batch sampler whose next iteration leaves out its first elements.

    The wrapped sampler draws them all the same, so what follows is what would have followed, and
    it is run to its end like any other. Later iterations are whole.

    Args:
        sampler: a sampler or batch sampler, or any iterable that stands for one.
        skip: how many elements the next iteration leaves out.
        stand_ins: so many elements the next iteration gives first that stand for ones that were
            left out.
        may_be_empty: whether an empty list can stand for a batch; else the last element does that
            was left out.
    """

    def __init__(
        self, sampler: Iterable[Any], skip: int, stand_ins: int = 0, may_be_empty: bool = True
    ) -> None:
        """Wrap the sampler."""
        self._sampler = sampler
        self._to_skip = skip
        self._stand_ins = stand_ins
        self._may_be_empty = may_be_empty
        self._skipped = 0
        self._last_skipped: list[Any] = []
        self._indices: Iterator[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        """Start the sampler at once, as torch does; what is left out is drawn on first use.

        Between the two torch draws the workers' seed, from a generator that samplers draw from too;
        and with workers it starts the sampler twice and uses the second start.
        """
        self._indices = iter(self._sampler)
        return self._remaining(self._indices)

    def _remaining(self, indices: Iterator[Any]) -> Iterator[Any]:
        self._skip(indices)
        count, self._stand_ins = self._stand_ins, 0
        # They must come even if nothing is left: workers that persist would wait for them.
        yield from ([[]] if self._may_be_empty else self._last_skipped) * count
        yield from indices

    def __len__(self) -> int:
        """Return the length of the wrapped sampler."""
        return len(self._sampler)  # type: ignore[arg-type]  # a sampler without one says so itself

    def skip_now(self) -> int:
        """Draw what the iteration in progress leaves out, and return how many that were.

        They are fewer than asked for where the sampler ends before; that is a warning.
        """
        assert self._indices is not None, "skip_now() before iter()"
        self._skip(self._indices)
        return self._skipped

    def _skip(self, indices: Iterator[Any]) -> None:
        wanted, self._to_skip = self._to_skip, 0
        for number in range(wanted):
            try:
                self._last_skipped = [next(indices)]
            except StopIteration:
                _warn_of_end(wanted, number)
                break
            self._skipped += 1


def _warn_of_end(wanted: int, there: int) -> None:
    warn_caller(
        f"The checkpoint says that {wanted} batches of this epoch were used, but the sampler has "
        f"only {there} now: nothing is left of this epoch. Was the data or the batch size changed?"
    )
