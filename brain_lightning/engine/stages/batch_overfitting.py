"""``overfit_batches``: the same few batches in every epoch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any


class FirstBatches:
    """Stands for a loader and gives its first batches, the same ones in every epoch.

    They are kept in memory: a loader that shuffles would give others each time.
    """

    def __init__(self, loader: Iterable[Any], batches: float) -> None:
        """Keep ``batches`` of ``loader``: a number, or a fraction of its length if a float."""
        self.loader = loader
        self._limit = batches if isinstance(batches, int) else int(len(loader) * batches)  # type: ignore[arg-type]
        self._kept: list[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        """Give the batches; the first time they are loaded."""
        if self._kept is None:
            self._kept = list(itertools.islice(iter(self.loader), self._limit))
        return iter(self._kept)

    def __len__(self) -> int:
        """The number of batches; never more than the loader has, if it is known."""
        try:
            return min(self._limit, len(self.loader))  # type: ignore[arg-type]
        except (TypeError, NotImplementedError):
            return self._limit

    def __getattr__(self, name: str) -> Any:
        """Anything else is the loader's."""
        if name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)
