"""SaveableDataLoader: a DataLoader that goes on in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, IterableDataset
from typing_extensions import override

from brain_lightning.ground.loggers import get_logger
from brain_lightning.parts.checkpoints.hooks import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from brain_lightning.parts.checkpoints.resume_file import read_resume_file, write_resume_file
from brain_lightning.parts.data.iteration_start import (
    IterationStart,
    is_own_process,
    own_generators,
    repeated_if_known,
    restore_own_generators,
    samplers_of,
)
from brain_lightning.parts.data.iterations_in_use import note_iteration, take_waiting
from brain_lightning.parts.data.loader_options import loader_options
from brain_lightning.parts.data.remaining_indices import RemainingIndices
from brain_lightning.parts.data.sampler_states import SamplerStates

logger = get_logger(__name__)

if TYPE_CHECKING:
    _DataLoader = DataLoader[Any]
else:
    _DataLoader = DataLoader


@dataclass
class _Progress:
    """How far an iteration has come, or where the next one starts."""

    position: int
    finished: bool
    start: IterationStart | None


class CountingIterator(Iterator[Any]):
    """The batches of one iteration, counted as they are handed over."""

    def __init__(self, batches: Iterator[Any], progress: _Progress) -> None:
        """Count what ``batches`` gives in ``progress``."""
        self._batches = batches
        self._progress = progress

    @override
    def __next__(self) -> Any:
        """Hand over the next batch."""
        try:
            batch = next(self._batches)
        except StopIteration:
            self._progress.finished = True
            raise
        self._progress.position += 1
        return batch

    def become(self, other: CountingIterator) -> None:
        """Hand over what ``other`` would have."""
        self._batches, self._progress = other._batches, other._progress

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        return len(self._batches)  # type: ignore[arg-type]  # torch's iterators have one


@register_checkpoint_hooks
class SaveableDataLoader(_DataLoader):
    """A DataLoader whose position is saved in checkpoints.

    Arguments, attributes and batches are those of :class:`torch.utils.data.DataLoader`. A
    checkpoint from the middle of an epoch, loaded before the first iteration, lets that iteration
    start after the batches that were handed over, without loading their data: same batches, same
    order, same random numbers for what comes after. Once iterated, a loader ignores checkpoints
    (evaluation loads one just for the best model), and so it does at the end of an epoch.

    The checkpoint file is SpeechBrain's: a number, or ``None`` before the first iteration. A
    second file beside it (see :mod:`brain_lightning.parts.checkpoints.resume_file`) holds the
    random states at the start of the epoch, and the state of an IterableDataset.

    An IterableDataset is saved with the loader when it has ``state_dict()`` and
    ``load_state_dict()`` and is loaded in the main process: after ``load_state_dict()``, its next
    ``__iter__()`` must give what was to come. Of any other one the position is known, but its data
    starts anew, as in SpeechBrain. Several processes all load the state of the main process.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Set up the loader; the arguments are DataLoader's."""
        super().__init__(*args, **kwargs)
        self._progress: _Progress | None = None
        self._pending: _Progress | None = None
        # The loader that holds the workers, where they persist and were started by a resume.
        self._resumed_loader: DataLoader[Any] | None = None
        self._has_workers = False
        # Workers that persist get a seed once in a run, also in one that was interrupted.
        self._worker_seed_was_drawn = False
        self._reported: dict[str, Any] | None = None
        self._sampler_states = SamplerStates(samplers_of(self))
        if self._is_iterable and not self._saves_dataset:
            logger.warning(
                "A SaveableDataLoader was made for an IterableDataset, whose position it cannot "
                "save: give the data set state_dict() and load_state_dict() and load it with "
                "num_workers=0, or save the position of the data set otherwise."
            )

    @property
    def position(self) -> int | None:
        """Batches handed over in this epoch, skipped ones included; None before the first epoch."""
        progress = self._pending or self._progress
        return None if progress is None else progress.position

    @property
    def _is_iterable(self) -> bool:
        return isinstance(self.dataset, IterableDataset)

    @property
    def _saves_dataset(self) -> bool:
        has_state = hasattr(self.dataset, "state_dict") and hasattr(self.dataset, "load_state_dict")
        return self._is_iterable and has_state and self.num_workers == 0

    @override
    def __iter__(self) -> CountingIterator:  # type: ignore[override]  # torch names a private class
        """Start an epoch, or go on with the one that a checkpoint was saved in."""
        if self._progress is None and self._pending is None and not self._is_iterable:
            self._pending = _progress_from(take_waiting(self) or {"position": None})
        pending, self._pending = self._pending, None
        start = None if pending is None else pending.start
        if start is None:
            start = IterationStart.capture(self, draws_worker_seed=not self._worker_seed_was_drawn)
            start.samplers = self._sampler_states.changed()
        if pending is None:
            batches, position = self._whole_epoch(start), 0
        else:
            self._sampler_states.restore(start.samplers)
            with repeated_if_known(pending.start, self):
                batches, position = self._rest_of_epoch(pending, start)
        self._has_workers = self._worker_seed_was_drawn = self._workers_persist
        self._progress = _Progress(position, finished=False, start=start)
        iterator = CountingIterator(batches, self._progress)
        if not self._is_iterable:
            note_iteration(self, iterator)
        return iterator

    def go_on(self, iterator: Iterator[Any], state: Mapping[str, Any]) -> None:
        """Bring ``iterator``, which this loader gave, to where a :meth:`state_dict` was."""
        assert isinstance(iterator, CountingIterator)
        self._pending = _progress_from(state)
        iterator.become(iter(self))

    def _whole_epoch(self, start: IterationStart) -> Iterator[Any]:
        if self._resumed_loader is not None:
            return iter(self._resumed_loader)
        if self._worker_seed_was_drawn and not self._has_workers and not self._is_iterable:
            # In the run that is continued the workers were there, and no seed was drawn now.
            return iter(self._loader_of_rest(RemainingIndices(self._indices, 0), start))
        return super().__iter__()

    def _rest_of_epoch(self, done: _Progress, start: IterationStart) -> tuple[Iterator[Any], int]:
        """Start the rest of an epoch and return it with the number of batches that were skipped."""
        if self._is_iterable:
            is_over = done.finished and self._saves_dataset
            return (iter(()) if is_over else super().__iter__()), done.position
        remaining = RemainingIndices(self._indices, done.position)
        batches = iter(self._loader_of_rest(remaining, start))
        return batches, remaining.skip_now()

    @property
    def _indices(self) -> Any:
        return self.sampler if self.batch_sampler is None else self.batch_sampler

    @property
    def _workers_persist(self) -> bool:
        return self.persistent_workers and self.num_workers > 0

    def _loader_of_rest(
        self, remaining: RemainingIndices, start: IterationStart
    ) -> DataLoader[Any]:
        """Make a loader for what is left: the samplers of a loader cannot be exchanged."""
        indices: dict[str, Any] = {"batch_sampler": remaining}
        if self.batch_sampler is None:
            indices = {"batch_size": None, "sampler": remaining}
        options = {**loader_options(self), "generator": start.worker_seed_generator(self)}
        loader: DataLoader[Any] = DataLoader(self.dataset, **indices, **options)
        if self._workers_persist:
            self._resumed_loader = loader
        return loader

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader is, as tensors and plain values.

        ``position`` is the property of that name, ``finished`` whether the epoch's batches were
        all handed over.
        """
        if self._reported is not None:
            return self._reported
        progress = self._pending or self._progress
        if progress is None:
            return {"position": None, "finished": False}
        state: dict[str, Any] = {
            "position": progress.position,
            "finished": progress.finished or self._all_handed_over(progress.position),
            "start": None if progress.start is None else progress.start.as_plain(),
            "worker_seed_was_drawn": self._worker_seed_was_drawn,
            "generators": [generator.get_state() for generator in own_generators(self)],
        }
        if state["finished"]:
            state["samplers"] = self._sampler_states.changed()
        if self._saves_dataset:
            state["dataset"] = self.dataset.state_dict()  # type: ignore[attr-defined]
        return state

    def report_state(self, state: dict[str, Any] | None) -> None:
        """Say ``state`` when asked for the state, while a batch waits that was fetched ahead.

        Args:
            state: what :meth:`state_dict` returned before that batch, copied; None to say again
                where the loader is.
        """
        self._reported = state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration go on from a :meth:`state_dict`.

        After an epoch that was finished the next one is whole: this is the convention of loaders
        with a state, which know nothing of what follows training in an epoch. A checkpoint file
        does know, and gives an empty rest then.

        Raises:
            ValueError: it is no such state.
        """
        progress = _progress_from(state)
        self._pending = None
        if progress is None:
            return
        if progress.finished:
            self._start_next_epoch(state)
        else:
            self._resume_from(progress, state)

    def _resume_from(self, progress: _Progress, state: Mapping[str, Any]) -> None:
        self._pending = progress
        if self._saves_dataset and "dataset" in state:
            self.dataset.load_state_dict(state["dataset"])  # type: ignore[attr-defined]

    def _start_next_epoch(self, state: Mapping[str, Any]) -> None:
        """Take over what the samplers' generators and the workers left behind in their epochs."""
        self._worker_seed_was_drawn = state["worker_seed_was_drawn"] and self._workers_persist
        # The processes of a run share one order, of which each takes a part.
        self._sampler_states.restore(state.get("samplers", []))
        if is_own_process(state["start"]):
            restore_own_generators(self, state["generators"])

    def _all_handed_over(self, position: int) -> bool:
        # Trainers stop at the length of a loader, before it can say that it has ended.
        return not self._is_iterable and position >= len(self)

    @mark_as_saver
    def save(self, path: str | Path) -> None:
        """Write the position to a file, and what else a resume needs to one beside it."""
        if self._is_iterable and not self._saves_dataset:
            logger.warning(
                "A checkpoint of a SaveableDataLoader was asked for, but the position in its "
                "IterableDataset cannot be saved: its data will start anew. The run goes on, in "
                "the belief that this is meant."
            )
        state = self.state_dict()
        write_resume_file(path, None if state["position"] is None else state)
        Path(path).write_text(str(state["position"]), encoding="utf-8")

    @mark_as_loader
    def load(self, path: str | Path, end_of_epoch: bool) -> None:
        """Let the first iteration go on from a file, in the middle of an epoch.

        Raises:
            ValueError: the file holds neither a position nor ``None``, or what is beside it is
                damaged.
        """
        if self._progress is not None:
            logger.debug(
                "A SaveableDataLoader has been iterated already and ignores the checkpoint "
                f"{path}. This is normal in evaluation, which loads one to get the best model."
            )
            return
        self._pending = None
        position = _read_position(path)
        if position is None:
            return
        state = read_resume_file(path)
        if state is not None and state.get("position") != position:
            state = None  # SpeechBrain has saved over an older checkpoint of ours
        if end_of_epoch:
            if state is not None:
                self._start_next_epoch(state)
            return
        state = {"position": position} if state is None else state
        progress = _progress_from(state)
        assert progress is not None, "a position was read"
        self._resume_from(progress, state)

    def _speechbrain_save(self, path: str | Path) -> None:
        """Save, by the name that SpeechBrain's k-means and its recipe of quantization call."""
        self.save(path)

    def _speechbrain_load(self, path: str | Path, end_of_epoch: bool) -> None:
        """Load, by SpeechBrain's name."""
        self.load(path, end_of_epoch)


def _progress_from(state: Mapping[str, Any]) -> _Progress | None:
    position = state.get("position", "missing")
    if position is None:
        return None
    if isinstance(position, bool) or not isinstance(position, int) or position < 0:
        raise ValueError(
            f"The state of a data loader has the position {position!r}, but needs a number of "
            "batches (0 or more) or None: give what state_dict() returned."
        )
    start = state.get("start")
    return _Progress(
        position=position,
        finished=bool(state.get("finished", False)),
        start=None if start is None else IterationStart.from_plain(start),
    )


def _read_position(path: str | Path) -> int | None:
    text = Path(path).read_text(encoding="utf-8").strip()
    if text == "None":
        return None
    if not text.isdecimal():
        raise ValueError(
            f"{path} should hold the position of a data loader, a number of batches or None, but "
            f"holds {text[:50]!r}."
        )
    return int(text)
