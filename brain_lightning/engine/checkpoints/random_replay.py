"""Coming to where a loader was in the middle of an epoch, even if it saves no position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from brain_lightning.parts.checkpoints.random_states import random_states, set_random_states
from brain_lightning.parts.data.dataset_generators import (
    dataset_generator_names,
    dataset_generator_states,
    set_dataset_generator_states,
)
from brain_lightning.parts.data.iteration_start import samplers_of
from brain_lightning.parts.data.sampler_states import SamplerStates

_SAMPLERS = "samplers"
_DATASET = "dataset_generators"


class LoaderOrder:
    """Everything that decides what an iteration of a loader gives, to have it given again.

    They are the random states, the generators of its own and of its data set, and what its samplers
    keep from one epoch to the next.
    """

    def __init__(self, loader: Any) -> None:
        """Take down what the samplers are like before their first epoch."""
        self._loader = loader
        is_torchs = isinstance(loader, DataLoader)
        self._samplers = SamplerStates(samplers_of(loader) if is_torchs else ())
        self._dataset = loader.dataset if is_torchs else None
        self._generators_at_first = dataset_generator_names(self._dataset)

    def at_start(self) -> dict[str, Any]:
        """Return what an iteration depends on that begins now."""
        states = random_states(loader_generators(self._loader))
        return {**states, **self._kept()}

    def _kept(self) -> dict[str, Any]:
        return {
            _SAMPLERS: self._samplers.changed(),
            _DATASET: dataset_generator_states(self._dataset, self._generators_at_first),
        }

    def _take_up(self, states: Mapping[str, Any]) -> None:
        self._samplers.restore(states.get(_SAMPLERS, ()))
        set_dataset_generator_states(self._dataset, states.get(_DATASET, {}))

    def start_again(self, states: Mapping[str, Any]) -> Iterator[Any]:
        """Return an iterator that begins as that one did before which ``states`` were taken."""
        set_random_states(states, loader_generators(self._loader))
        self._take_up(states)
        iterator: Iterator[Any] = iter(self._loader)
        return iterator

    def between_epochs(self) -> dict[str, Any]:
        """Return what the loader itself takes from the epochs done into the next one."""
        generators = {name: each.get_state() for name, each in _found_generators(self._loader)}
        return {"generators": generators, **self._kept()}

    def go_on(self, states: Mapping[str, Any]) -> None:
        """Give the loader what :meth:`between_epochs` returned."""
        for name, generator in _found_generators(self._loader):
            if name in states.get("generators", {}):
                generator.set_state(states["generators"][name])
        self._take_up(states)


def loader_generators(loader: Any) -> dict[str, torch.Generator]:
    """Return the random generators that belong to a loader or its samplers, by name."""
    return dict(_found_generators(loader))


def can_be_repeated(loader: Any, recoverables: Iterable[object]) -> bool:
    """Whether a loader gives an epoch again, and nothing of it recovers a position by itself."""
    if isinstance(loader, (list, tuple)):
        return True
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return False
    saved = {id(each) for each in recoverables}
    return not any(id(part) in saved for part in (loader, loader.dataset, *samplers_of(loader)))


class Replay:
    """The way to batch ``delivered`` of an epoch.

    A loader that has recovered its position only has to be iterated. Another one is begun as the
    epoch was, and its first batches are thrown away.
    """

    def __init__(self, delivered: int, states: dict[str, Any] | None, loader_resumes: bool) -> None:
        """Come to batch ``delivered``; ``states`` are those at the start of the epoch."""
        self.delivered = delivered
        self.states = states
        self._loader_resumes = loader_resumes

    def start(self, loader: Any, order: LoaderOrder) -> Iterator[Any]:
        """Return an iterator over the rest of the epoch."""
        if self._loader_resumes:
            return iter(loader)
        iterator = iter(loader) if self.states is None else order.start_again(self.states)
        for _ in range(self.delivered):
            if next(iterator, self) is self:
                break
        return iterator


def _found_generators(loader: Any) -> Iterator[tuple[str, torch.Generator]]:
    owners = {
        "loader": loader,
        "sampler": getattr(loader, "sampler", None),
        "batch_sampler": getattr(loader, "batch_sampler", None),
    }
    owners["batch_sampler.sampler"] = getattr(owners["batch_sampler"], "sampler", None)
    seen: set[int] = set()
    for name, owner in owners.items():
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator) and id(generator) not in seen:
            seen.add(id(generator))
            yield name, generator
