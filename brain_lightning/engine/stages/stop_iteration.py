"""Carries a StopIteration of the recipe's through Lightning's loops."""

from __future__ import annotations

from types import TracebackType


class RecipeStopIteration(RuntimeError):
    """A StopIteration out of one of the recipe's methods; it is in ``stop``."""

    def __init__(self, stop: StopIteration) -> None:
        """Carry ``stop``."""
        super().__init__("A method of the recipe raised StopIteration.")
        self.stop = stop


class stop_iteration_kept:
    """Turn a StopIteration into a RecipeStopIteration.

    Lightning takes StopIteration for the end of the data and swallows it; SpeechBrain's loop lets
    it through to the caller of ``fit()``, as it would any other error.
    """

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wrap the error, if it is one."""
        if isinstance(error, StopIteration):
            raise RecipeStopIteration(error) from error
