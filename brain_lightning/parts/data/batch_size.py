"""BatchsizeGuesser: how many examples a batch of any kind has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any


class BatchsizeGuesser:
    """Guess the size of a batch; never an error, 1 when nothing fits.

    Tried in this order: an attribute ``batchsize``, the first dimension, the length of the first
    element, the length of what iterating gives first. What worked is tried first the next time.

    As in SpeechBrain, a dict is taken for what iterating gives: the length of its first key.
    """

    def __init__(self) -> None:
        """Start without knowing the kind of batch."""
        self.method: Callable[[Any], int] | None = None

    def __call__(self, batch: Any) -> int:
        """Return the number of examples in a batch."""
        if self.method is not None:
            with contextlib.suppress(
                Exception
            ):  # a batch may be anything, and a guess is asked for
                return self.method(batch)
        return self.find_suitable_method(batch)

    def find_suitable_method(self, batch: Any) -> int:
        """Return the number of examples in a batch, and remember what told it."""
        ways = (self.attr_based, self.torch_tensor_bs, self.len_of_first, self.len_of_iter_first)
        for method in ways:
            try:
                size = method(batch)
            except Exception:  # as above
                continue
            self.method = method
            return size
        self.method = None  # the next batch is looked at anew, as in SpeechBrain
        return self.fallback(batch)

    def attr_based(self, batch: Any) -> int:
        """Return what a batch says of itself."""
        size: int = batch.batchsize
        return size

    def torch_tensor_bs(self, batch: Any) -> int:
        """Return the first dimension of a tensor."""
        size: int = batch.shape[0]
        return size

    def len_of_first(self, batch: Any) -> int:
        """Return the length of the first element."""
        return len(batch[0])

    def len_of_iter_first(self, batch: Any) -> int:
        """Return the length of what comes first in an iteration."""
        return len(next(iter(batch)))

    def fallback(self, batch: Any) -> int:
        """Return 1, for want of anything better."""
        return 1
