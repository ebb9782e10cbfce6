"""What Lightning iterates over in place of a recipe's loader.

Lightning fetches ahead from a loader without a length, and does not run one with a length to its
end. Both change what a recipe sees: a data set that draws random numbers draws them in another
order, and a sampler or a ``LoopedLoader`` that works at its end never gets there. So Lightning is
given tickets, and the batch behind a ticket is fetched when the step that needs it begins.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from brain_lightning.engine.checkpoints.random_replay import LoaderOrder, Replay, can_be_repeated
from brain_lightning.ground.ranks import get_rank
from brain_lightning.parts.checkpoints.random_states import random_states
from brain_lightning.parts.data.iterations_in_use import driven_by_a_loop
from brain_lightning.parts.data.saveable_loader import SaveableDataLoader

TICKET = object()
NO_BATCH = object()
"""Stands for a training batch that is None, which Lightning would skip."""
_NOTHING = object()

# Lightning would call set_epoch on a sampler that it finds, with its own count from zero; the
# recipe's epoch is the Brain's business. Loader positions are saved by the recipe's Checkpointer.
_HIDDEN = frozenset({"sampler", "batch_sampler", "state_dict", "load_state_dict"})


def _nothing() -> None:
    """Do nothing."""


class BatchTickets:
    """An iterable of tickets that stands for a loader.

    Order of calls: ``open()`` when a stage begins; for each ticket ``fetch()``; ``has_more()`` when
    somebody must know whether the stage ends here.

    Attributes that are not the tickets' own are the loader's, so a callback finds
    ``trainer.train_dataloader.dataset`` where it expects it.
    """

    def __init__(self, loader: Iterable[Any], keeps_start_states: bool = False) -> None:
        """Stand for ``loader``; nothing is iterated yet.

        Args:
            loader: a recipe's loader.
            keeps_start_states: note the random states with which each stage is begun.
        """
        self.loader = loader
        driven_by_a_loop(loader)
        self.order = LoaderOrder(loader) if keeps_start_states else None
        self.delivered = 0
        self._iterator: Iterator[Any] | None = None
        self._held: Any = _NOTHING
        self._is_exhausted = False
        self._before_first_ticket: Callable[[], None] | None = None
        self._before_first_batch: Callable[[], Callable[[], None] | None] | None = None
        self.states_before_held: dict[str, Any] | None = None
        """The random states with which a batch that waits was fetched, where they were noted."""
        self._replay: Replay | None = None
        self.start_states: dict[str, Any] | None = None
        """The random states with which the training stage in progress made its iterator."""

    def open(
        self,
        before_first_ticket: Callable[[], None] | None = None,
        before_first_batch: Callable[[], Callable[[], None] | None] | None = None,
        replay: Replay | None = None,
    ) -> None:
        """Begin a stage: the loader's iterator is made with the first ``fetch()``.

        Args:
            before_first_ticket: called once, when Lightning asks for the stage's first ticket.
            before_first_batch: called once, between making the iterator and its first batch; what
                it returns, if anything, is called while that batch waits.
            replay: how to come to the batch at which a stage was interrupted.
        """
        self.delivered = 0 if replay is None else replay.delivered
        self._replay = replay
        if replay is not None:
            self.start_states = replay.states
        self._iterator = None
        self._held = _NOTHING
        self._is_exhausted = False
        self._before_first_ticket = before_first_ticket
        self._before_first_batch = before_first_batch

    def fetch(self, before_batch: Callable[[], None] = _nothing) -> Any:
        """Return the next batch.

        Args:
            before_batch: called when the iterator has been made and is about to be asked, unless a
                batch is held.

        Raises:
            StopIteration: the loader has no more.
        """
        batch = self._take_held() if self.is_ahead else self._next_batch(before_batch)
        self.delivered += 1
        return batch

    def close(self) -> None:
        """End the stage; workers end with the loop that they worked for."""
        self._iterator = None
        self._take_held()
        self._is_exhausted = False

    def release(self) -> None:
        """Let go of the loader: the run is over, and workers may stay as long as it is there."""
        self.close()
        self.loader = ()
        self.order = None
        self._replay = None
        self._before_first_ticket = self._before_first_batch = None

    @property
    def is_ahead(self) -> bool:
        """Whether the loader has given a batch that nobody has fetched yet."""
        return self._held is not _NOTHING

    def has_more(self, may_be_saved: bool = False) -> bool:
        """Whether the loader has another batch; if so, it is held for the next ``fetch()``.

        Args:
            may_be_saved: whether a checkpoint may be saved while it is held, which then is one of
                the moment before.
        """
        if self._held is _NOTHING:
            if may_be_saved:
                self._note_position()
            try:
                self._held = self._next_batch()
            except StopIteration:
                self._take_held()
                return False
        return True

    def _note_position(self) -> None:
        self.states_before_held = random_states()
        if isinstance(self.loader, SaveableDataLoader):
            self.loader.report_state(copy.deepcopy(self.loader.state_dict()))

    def _take_held(self) -> Any:
        batch, self._held = self._held, _NOTHING
        self.states_before_held = None
        if isinstance(self.loader, SaveableDataLoader):
            self.loader.report_state(None)
        return batch

    def _next_batch(self, before_batch: Callable[[], None] = _nothing) -> Any:
        if self._iterator is None:
            self._iterator = self._begin()
            first, self._before_first_batch = self._before_first_batch, None
            while_held = None if first is None else first()
            if while_held is not None:
                return self._first_batch(while_held)
        before_batch()
        return self._batch_of_loader()

    def _first_batch(self, while_held: Callable[[], None]) -> Any:
        self._note_position()
        try:
            self._held = self._batch_of_loader()
            while_held()
        finally:
            batch = self._take_held()
        return batch

    def _batch_of_loader(self) -> Any:
        assert self._iterator is not None
        if self._is_exhausted:
            raise StopIteration
        try:
            return next(self._iterator)
        except StopIteration:
            # Some loaders would give more if they were asked again; SpeechBrain does not ask.
            self._is_exhausted = True
            raise

    def _begin(self) -> Iterator[Any]:
        if self._replay is None:
            self.start_states = None if self.order is None else self.order.at_start()
            return iter(self.loader)
        replay, self._replay = self._replay, None
        assert self.order is not None, "only training is gone on with in its middle"
        return replay.start(self.loader, self.order)

    def place(self, recoverables: Iterable[object]) -> dict[str, Any] | None:
        """Return what nothing else knows of where the loader is: for checkpoints.

        Args:
            recoverables: what is saved by itself.
        """
        if self.order is None:
            return None
        if not can_be_repeated(self.loader, recoverables):
            return self._own_of_this_process()
        done = self.delivered  # a batch that waits has not been delivered
        return {"start": self.start_states, "done": done, "next": self.order.between_epochs()}

    def _own_of_this_process(self) -> dict[str, Any] | None:
        """What of a loader that saves itself only this process has: the main one's is saved."""
        loader = self._saveable
        return None if loader is None or not get_rank() else {"own": loader.state_dict()}

    @property
    def _saveable(self) -> SaveableDataLoader | None:
        """The loader, or that within a LoopedLoader, if it saves its position."""
        loader = getattr(self.loader, "loader", self.loader)
        return loader if isinstance(loader, SaveableDataLoader) else None

    def replay_from(
        self, place: Mapping[str, Any] | None, in_epoch: bool, recoverables: Iterable[object]
    ) -> Replay | None:
        """Go on from a :meth:`place`: return the way there, or None for a whole epoch."""
        if place is None or self.order is None:
            return None
        if "own" in place:
            if self._saveable is not None:
                self._saveable.take_own(place["own"])
            return None
        if not can_be_repeated(self.loader, recoverables):
            return None
        if in_epoch and place["start"] is not None:
            return Replay(place["done"], place["start"], loader_resumes=False)
        self.order.go_on(place["next"])
        return None

    def length(self) -> int | None:
        """The loader's length in batches, or None where it has none."""
        try:
            return len(self.loader)  # type: ignore[arg-type]
        except (TypeError, NotImplementedError):
            return None

    def __iter__(self) -> Iterator[object]:
        """Yield tickets without end: when a stage ends is decided by the loader."""
        while True:
            if self._before_first_ticket is not None:
                before, self._before_first_ticket = self._before_first_ticket, None
                before()
            yield TICKET

    def __len__(self) -> int:
        """The loader's length; a loader that says zero counts as one without a length.

        Lightning skips an empty stage with all its hooks; SpeechBrain calls them.
        """
        length = self.length()
        if not length:
            raise TypeError(f"{type(self.loader).__name__} has no length")
        return length

    def __getattr__(self, name: str) -> Any:
        """Anything else is the loader's."""
        if name in _HIDDEN or name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)
