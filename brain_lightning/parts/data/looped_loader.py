"""LoopedLoader: an endless stream of batches, in epochs of a given number of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from brain_lightning.parts.checkpoints.hooks import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from brain_lightning.parts.checkpoints.resume_file import read_resume_file, write_resume_file
from brain_lightning.parts.data.batch_size import BatchsizeGuesser
from brain_lightning.parts.data.recovered_loaders import take_recovered, wait_no_longer


@register_checkpoint_hooks
class LoopedLoader:
    """Loop over a loader without an end, and cut what it gives into nominal epochs.

    An epoch goes on in the loader where the one before it stopped. The loader is started again
    whenever it comes to its end.

    The checkpoint file is SpeechBrain's: step, total steps and total samples, a line each. When
    the loader has ``state_dict()`` and ``load_state_dict()``, a file beside it holds its state, and
    a resumed run goes on in the middle of the loader's data, where SpeechBrain starts anew.

    Args:
        loader: a DataLoader or any iterable that can be iterated over again.
        epoch_length: steps in a nominal epoch.
        batchsize_fn: called with a batch, returns how many samples it has; BatchsizeGuesser without
            it.

    Raises:
        ValueError: the epoch length is no positive integer.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        epoch_length: int,
        batchsize_fn: Callable[[Any], int] | None = None,
    ) -> None:
        """Start before the first step."""
        self.loader = loader
        self.iterator: Iterator[Any] | None = None
        self._starts_with_batch = False
        self.epoch_length = _positive_integer(epoch_length)
        self.step = 0
        """Steps in this epoch."""
        self.total_steps = 0
        """Steps ever."""
        self.total_samples = 0
        """Samples that this process has seen."""
        self.batchsize_fn = BatchsizeGuesser() if batchsize_fn is None else batchsize_fn

    def __iter__(self) -> Iterator[Any]:
        """Go on where the last epoch stopped."""
        wait_no_longer(self)
        if self.iterator is None and not self._starts_with_batch:
            self.iterator = iter(self.loader)
        return self

    def __next__(self) -> Any:
        """Return the next batch, until the nominal epoch is over.

        Raises:
            ValueError: the loader has no batches at all.
        """
        if self.step >= self.epoch_length:
            self.step = 0
            raise StopIteration
        batch = self._next_batch()
        self.step += 1
        self.total_steps += 1
        self.total_samples += self.batchsize_fn(batch)
        return batch

    def _next_batch(self) -> Any:
        if self.iterator is None:
            self.iterator = iter(self.loader)
        try:
            return next(self.iterator)
        except StopIteration:
            self.iterator = iter(self.loader)
        try:
            return next(self.iterator)
        except StopIteration:
            # Left as it is, it would end this and every epoch without a word.
            raise ValueError(
                f"A LoopedLoader got no batch from {type(self.loader).__name__}: the loader is "
                "empty, or it is an iterator that cannot be started again."
            ) from None

    def __len__(self) -> int:
        """Return the steps in a nominal epoch."""
        return self.epoch_length

    @mark_as_saver
    def save(self, path: str | Path) -> None:
        """Write the three counts to a file, and the loader's state to one beside it."""
        wait_no_longer(self)
        inner = self.loader.state_dict() if _has_state(self.loader) else None  # type: ignore[attr-defined]
        state = None if inner is None else {"total_steps": self.total_steps, "loader": inner}
        write_resume_file(path, state)
        counts = (self.step, self.total_steps, self.total_samples)
        Path(path).write_text("".join(f"{count}\n" for count in counts), encoding="utf-8")

    @mark_as_loader
    def load(self, path: str | Path, end_of_epoch: bool = True) -> None:
        """Read the three counts and, before the first iteration, the loader's state.

        Raises:
            ValueError: the file does not hold three counts.
        """
        step, total_steps, total_samples = _read_counts(path)
        state = read_resume_file(path)
        if not end_of_epoch and step == 0 and total_steps > 0:
            # The epoch's steps were over, but not the epoch (validation, say): none are left.
            step = self.epoch_length
        self.step, self.total_steps, self.total_samples = step, total_steps, total_samples
        if state is not None and state.get("total_steps") != total_steps:
            state = None  # SpeechBrain has saved over an older checkpoint of ours
        take_recovered(self, self._take_recovered, state)

    def _take_recovered(self, state: Mapping[str, Any] | None) -> None:
        """Let the loader go on from its part of a ``state``; without one it begins anew."""
        if state is not None and self.iterator is None and _has_state(self.loader):
            self.loader.load_state_dict(state["loader"])  # type: ignore[attr-defined]
            # Where the loader had just come to its end, the run that is continued started it again
            # for the next batch, with the random states of that moment.
            self._starts_with_batch = True


def _has_state(loader: object) -> bool:
    return hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")


def _read_counts(path: str | Path) -> tuple[int, int, int]:
    text = Path(path).read_text(encoding="utf-8")
    try:
        step, total_steps, total_samples = (int(line) for line in text.split())
    except ValueError as error:
        raise ValueError(
            f"{path} should hold the step, total steps and total samples of a LoopedLoader, a line "
            f"each, but holds {text[:50]!r}."
        ) from error
    return step, total_steps, total_samples


def _positive_integer(epoch_length: object) -> int:
    # YAML reads 1e3 as a float.
    is_whole = isinstance(epoch_length, int) or (
        isinstance(epoch_length, float) and epoch_length.is_integer()
    )
    if isinstance(epoch_length, bool) or not is_whole or epoch_length < 1:  # type: ignore[operator]
        raise ValueError(
            f"The length of a nominal epoch is {epoch_length!r}, but must be a number of steps, 1 "
            "or more."
        )
    return int(epoch_length)  # type: ignore[call-overload, no-any-return]
