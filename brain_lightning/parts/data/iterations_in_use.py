"""Loaders that parts of a recipe draw from, batch by batch, while it trains.

SpeechBrain's AddNoise makes a loader of noises when it is first called, and keeps its iterator from
one training batch to the next. No checkpointer knows it: after a resume it is made again, and goes
on here where the interrupted one was.

Order of calls: :func:`iterations_in_use` at a save; in the resumed process :func:`let_them_go_on`,
and a loader that is iterated for the first time asks :func:`take_waiting`. The new loader is told
by its data; those of the same data by the size of their batches and by their order. Loaders that
the training and evaluation loops iterate are :func:`driven_by_a_loop`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

from torch.utils.data import BatchSampler


class ResumableLoader(Protocol):
    """What this asks of a loader."""

    dataset: Any
    batch_sampler: Any

    def state_dict(self) -> dict[str, Any]:
        """Return where it is."""

    def go_on(self, iterator: Iterator[Any], state: Mapping[str, Any]) -> None:
        """Bring an iterator that was begun to where an interrupted one was."""


_loaders: WeakKeyDictionary[Iterator[Any], ResumableLoader] = WeakKeyDictionary()
"""Iterators with their loaders; each for as long as somebody has it."""
_first_begun: WeakKeyDictionary[ResumableLoader, int] = WeakKeyDictionary()
_numbers = count()
_driven: WeakSet[object] = WeakSet()
_waiting: list[Mapping[str, Any]] = []


def driven_by_a_loop(loader: object) -> None:
    """Say that a loader, and one within it, is iterated by a loop, which knows where it is."""
    for each in (loader, getattr(loader, "loader", None)):
        if hasattr(each, "go_on"):
            _driven.add(each)


def note_iteration(loader: ResumableLoader, iterator: Iterator[Any]) -> None:
    """Remember which loader an iterator is of."""
    _loaders[iterator] = loader
    if loader not in _first_begun:
        _first_begun[loader] = next(_numbers)


def iterations_in_use() -> list[dict[str, Any]]:
    """Return where the loaders are that somebody iterates beside the loops.

    Those that a run which was resumed has not come to again are where they were.
    """
    in_use = [
        {
            "data": _fingerprint(loader),
            "batch_size": _batch_size(loader),
            "state": loader.state_dict(),
        }
        for loader in _in_use().values()
    ]
    return [*in_use, *map(dict, _waiting)]


def let_them_go_on(states: Sequence[Mapping[str, Any]]) -> None:
    """Keep what :func:`iterations_in_use` returned for the loaders to come; some may be there."""
    _waiting[:] = states
    for iterator, loader in _in_use().items():
        state = take_waiting(loader)
        if state is not None:
            loader.go_on(iterator, state)


def take_waiting(loader: ResumableLoader) -> Mapping[str, Any] | None:
    """Return where an interrupted loader of the same data was, once; None where there is none.

    AddNoise takes the size of its batches from the first batch of speech that it sees: the loader
    gets back the size that it had.
    """
    if not _waiting or loader in _driven:
        return None
    data, batch_size = _fingerprint(loader), _batch_size(loader)
    same = [each for each in _waiting if each["data"] == data]
    if not same:
        return None
    # Several may draw from the same file: AddReverb's batches are then not as large as AddNoise's.
    found = next((each for each in same if each["batch_size"] == batch_size), same[0])
    _waiting[:] = [each for each in _waiting if each is not found]
    if found["batch_size"] is not None and type(loader.batch_sampler) is BatchSampler:
        loader.batch_sampler.batch_size = found["batch_size"]
    state: Mapping[str, Any] = found["state"]
    return state


def _in_use() -> dict[Iterator[Any], ResumableLoader]:
    """Return iterators and their loaders, in the order in which those were first iterated."""
    in_use = [(each, loader) for each, loader in list(_loaders.items()) if loader not in _driven]
    return dict(sorted(in_use, key=lambda pair: _first_begun[pair[1]]))


def _batch_size(loader: ResumableLoader) -> Any:
    return getattr(loader.batch_sampler, "batch_size", None)


def _fingerprint(loader: ResumableLoader) -> list[Any]:
    names = "\n".join(map(str, getattr(loader.dataset, "data_ids", ())))
    kind = type(loader.dataset).__qualname__
    return [kind, len(loader.dataset), zlib.crc32(names.encode())]
