"""SaveableDataLoader: a DataLoader that goes on in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
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
from brain_lightning.parts.data.dataset_generators import (
    dataset_generator_names,
    dataset_generator_states,
    set_dataset_generator_states,
)
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
from brain_lightning.parts.data.loader_progress import (
    CountingIterator,
    Progress,
    position_in,
    read_position,
)
from brain_lightning.parts.data.loading_workers import HandedOver, LoadingWorkers, WorkerStates
from brain_lightning.parts.data.recovered_loaders import take_recovered, wait_no_longer
from brain_lightning.parts.data.remaining_indices import RemainingIndices
from brain_lightning.parts.data.sampler_states import SamplerStates

logger = get_logger(__name__)

if TYPE_CHECKING:
    _DataLoader = DataLoader[Any]
else:
    _DataLoader = DataLoader


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
    random states at the start of the epoch, those of the workers and of generators that the data
    set has as attributes, and the state of an IterableDataset.

    An IterableDataset is saved with the loader when it has ``state_dict()`` and
    ``load_state_dict()`` and is loaded in the main process: after ``load_state_dict()``, its next
    ``__iter__()`` must give what was to come. Of any other one the position is known, but its data
    starts anew, as in SpeechBrain. Several processes all load the state of the main process.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Set up the loader; the arguments are DataLoader's."""
        super().__init__(*args, **kwargs)
        self._progress: Progress | None = None
        self._pending: Progress | None = None
        # The loader that holds the workers, where they persist and were started by a resume.
        self._resumed_loader: DataLoader[Any] | None = None
        self._has_workers = False
        # Workers that persist get a seed once in a run, also in one that was interrupted.
        self._worker_seed_was_drawn = False
        # What workers that persist begin the next epoch with, if they must be started for it.
        self._states_of_persistent: dict[int, dict[str, Any]] = {}
        self._reported: dict[str, Any] | None = None
        self._sampler_states = SamplerStates(samplers_of(self))
        self._generators_at_first = dataset_generator_names(self.dataset)
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
        wait_no_longer(self)
        if self._progress is None and self._pending is None and not self._is_iterable:
            self._pending = self._progress_from(take_waiting(self) or {"position": None})
        pending, self._pending = self._pending, None
        start = None if pending is None else pending.start
        if start is None:
            start = IterationStart.capture(self, draws_worker_seed=not self._worker_seed_was_drawn)
            start.samplers = self._sampler_states.changed()
        if pending is None:
            workers = WorkerStates(self._known_worker_states())
            batches, position = self._whole_epoch(start, workers), 0
        else:
            workers = pending.workers
            self._sampler_states.restore(start.samplers)
            # Before the workers start, and after the samplers: they may share a generator.
            set_dataset_generator_states(self.dataset, pending.dataset_generators)
            with repeated_if_known(pending.start, self):
                batches, position = self._rest_of_epoch(pending, start)
            set_dataset_generator_states(self.dataset, pending.dataset_generators)
        self._has_workers = self._worker_seed_was_drawn = self._workers_persist
        self._progress = Progress(position, finished=False, start=start, workers=workers)
        iterator = CountingIterator(batches, self._progress)
        if not self._is_iterable:
            note_iteration(self, iterator)
        return iterator

    def go_on(self, iterator: Iterator[Any], state: Mapping[str, Any]) -> None:
        """Bring ``iterator``, which this loader gave, to where a :meth:`state_dict` was."""
        assert isinstance(iterator, CountingIterator)
        self._pending = self._progress_from(state)
        iterator.become(iter(self))

    def _known_worker_states(self) -> dict[int, dict[str, Any]]:
        """Return what the workers have drawn up to now, if they are there from epoch to epoch."""
        if not (self._workers_persist and self._workers_report):
            return {}
        if self._progress is None:
            return self._states_of_persistent
        return self._progress.workers.as_plain()

    def _whole_epoch(self, start: IterationStart, workers: WorkerStates) -> Iterator[Any]:
        if self._resumed_loader is not None:
            return self._handed_over(iter(self._resumed_loader), workers)
        if self._worker_seed_was_drawn and not self._has_workers and not self._is_iterable:
            # In the run that is continued the workers were there, and no seed was drawn now.
            loader = self._loader_of_rest(RemainingIndices(self._indices, 0), start, workers)
            return self._handed_over(iter(loader), workers)
        with self._collated_in_workers():
            return self._handed_over(super().__iter__(), workers)

    def _rest_of_epoch(self, done: Progress, start: IterationStart) -> tuple[Iterator[Any], int]:
        """Start the rest of an epoch and return it with the number of batches that were skipped."""
        if self._is_iterable:
            is_over = done.finished and self._saves_dataset
            return (iter(()) if is_over else super().__iter__()), done.position
        # The first batch that is left is for the worker whose turn it was.
        passed_over = done.position % self.num_workers if self._workers_report else 0
        # How a data set loads several at once is its own business, also whether none will do.
        may_be_empty = self.batch_sampler is not None and not hasattr(self.dataset, "__getitems__")
        remaining = RemainingIndices(self._indices, done.position, passed_over, may_be_empty)
        loader = self._loader_of_rest(remaining, start, done.workers, passed_over)
        batches = self._handed_over(iter(loader), done.workers)
        if isinstance(batches, HandedOver):
            # Now: what the sampler draws for the batches to come is drawn as it was.
            batches.pass_over(passed_over)
        return batches, remaining.skip_now()

    @property
    def _workers_report(self) -> bool:
        """Whether workers say with each batch what they have drawn up to it.

        Where they hand over what is ready first, nobody can say which is whose turn.
        """
        in_order = getattr(self, "in_order", True)  # newer than the oldest torch we take
        return self.num_workers > 0 and not self._is_iterable and in_order

    @contextmanager
    def _collated_in_workers(self) -> Iterator[None]:
        """Within the block torch starts workers that report; then the function is the recipe's."""
        own = self.collate_fn
        if self._workers_report:
            self.collate_fn = LoadingWorkers(
                own,
                generators_at_first=self._generators_at_first,
                says_all=self._workers_persist,
            ).collate
        try:
            yield
        finally:
            self.collate_fn = own

    def _handed_over(self, batches: Iterator[Any], workers: WorkerStates) -> Iterator[Any]:
        return HandedOver(batches, workers) if self._workers_report else batches

    @property
    def _indices(self) -> Any:
        return self.sampler if self.batch_sampler is None else self.batch_sampler

    @property
    def _workers_persist(self) -> bool:
        return self.persistent_workers and self.num_workers > 0

    def _loader_of_rest(
        self,
        remaining: RemainingIndices,
        start: IterationStart,
        states: WorkerStates,
        passed_over: int = 0,
    ) -> DataLoader[Any]:
        """Make a loader for what is left: the samplers of a loader cannot be exchanged."""
        options = {**loader_options(self), "generator": start.worker_seed_generator(self)}
        if self.batch_sampler is None:
            options.update(batch_size=None, sampler=remaining)
        else:
            options.update(batch_sampler=remaining)
        if self._workers_report:
            workers = LoadingWorkers(
                self.collate_fn,
                self.worker_init_fn,
                states.as_plain(),
                passed_over,
                self._generators_at_first,
                says_all=self._workers_persist,
            )
            options.update(collate_fn=workers.collate, worker_init_fn=workers.start)
        loader: DataLoader[Any] = DataLoader(self.dataset, **options)
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
        wait_no_longer(self)
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
        generators = self._dataset_generators()
        if generators:
            state["dataset_generators"] = generators
        if self._workers_report:
            state["workers"] = {"number": self.num_workers, "states": progress.workers.as_plain()}
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
        progress = self._progress_from(state)
        self._pending = None
        if progress is None:
            return
        if progress.finished:
            self._start_next_epoch(state)
        else:
            self._resume_from(progress, state)

    def take_own(self, state: Mapping[str, Any]) -> None:
        """Take this process's random numbers, where a checkpoint has given the main process's.

        Args:
            state: what :meth:`state_dict` returned on the process of this rank when the checkpoint
                was saved. Where it was elsewhere in its data, nothing of it can be taken.
        """
        own = self._progress_from(state)
        if own is None or self._is_iterable or self._progress is not None:
            return
        if self._pending is None and own.finished:
            self._start_next_epoch(state)
        elif self._pending is not None and self._pending.position == own.position:
            self._pending = own

    def _resume_from(self, progress: Progress, state: Mapping[str, Any]) -> None:
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
            self._states_of_persistent = self._worker_states_in(state)
            set_dataset_generator_states(self.dataset, _own_in(state, "dataset_generators"))

    def _all_handed_over(self, position: int) -> bool:
        # Trainers stop at the length of a loader, before it can say that it has ended.
        return not self._is_iterable and position >= len(self)

    def _progress_from(self, state: Mapping[str, Any]) -> Progress | None:
        position = position_in(state)
        if position is None:
            return None
        start = state.get("start")
        return Progress(
            position=position,
            finished=bool(state.get("finished", False)),
            start=None if start is None else IterationStart.from_plain(start),
            workers=WorkerStates(self._worker_states_in(state)),
            dataset_generators=_own_in(state, "dataset_generators"),
        )

    def _dataset_generators(self) -> Mapping[str, Any]:
        if self._is_iterable:
            return {}  # such a data set says itself what it has to go on with
        if self._pending is not None:
            return self._pending.dataset_generators
        return dataset_generator_states(self.dataset, self._generators_at_first)

    def _worker_states_in(self, state: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
        workers = _own_in(state, "workers")
        fits = self._workers_report and workers.get("number") == self.num_workers
        return dict(workers["states"]) if fits else {}

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
        position = read_position(path)
        state = None if position is None else read_resume_file(path)
        if state is not None and state.get("position") != position:
            state = None  # SpeechBrain has saved over an older checkpoint of ours
        take_recovered(self, partial(self._take_recovered, position, end_of_epoch), state)

    def _take_recovered(
        self, position: int | None, end_of_epoch: bool, state: Mapping[str, Any] | None
    ) -> None:
        """Go on from a position, exactly where there is a ``state``."""
        self._pending = None
        if position is None:
            return
        if end_of_epoch:
            if state is not None:
                self._start_next_epoch(state)
            return
        state = {"position": position} if state is None else state
        progress = self._progress_from(state)
        assert progress is not None, "a position was read"
        self._resume_from(progress, state)

    def _speechbrain_save(self, path: str | Path) -> None:
        """Save, by the name that SpeechBrain's k-means and its recipe of quantization call."""
        self.save(path)

    def _speechbrain_load(self, path: str | Path, end_of_epoch: bool) -> None:
        """Load, by SpeechBrain's name."""
        self.load(path, end_of_epoch)


def _own_in(state: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a part of a ``state_dict()`` that only the process has a use for that it is of."""
    start = state.get("start")
    found: Mapping[str, Any] = state.get(name, {})
    return found if start is not None and is_own_process(start) else {}
