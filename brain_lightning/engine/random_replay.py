"""Coming to where a loader was in the middle of an epoch, even if it saves no position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from brain_lightning.parts.checkpoints.random_states import random_states, set_random_states


def loader_generators(loader: Any) -> dict[str, torch.Generator]:
    """Return the random generators that belong to a loader or its samplers, by name."""
    return dict(_found_generators(loader))


def generator_states(loader: Any) -> dict[str, torch.Tensor]:
    """Return the states of the generators that belong to a loader, by name."""
    return {name: each.get_state() for name, each in _found_generators(loader)}


def set_generator_states(loader: Any, states: Mapping[str, torch.Tensor]) -> None:
    """Put the generators that belong to a loader into these states."""
    for name, generator in _found_generators(loader):
        if name in states:
            generator.set_state(states[name])


def epoch_start_states(loader: Any) -> dict[str, Any]:
    """Return every random state that decides what an iteration gives that begins now."""
    return random_states(loader_generators(loader))


class Replay:
    """The way to batch ``delivered`` of an epoch.

    A loader that has recovered its position only has to be iterated. Another one is begun as the
    epoch was, with the same random states, and its first batches are thrown away.
    """

    def __init__(self, delivered: int, states: dict[str, Any] | None, loader_resumes: bool) -> None:
        """Come to batch ``delivered``; ``states`` are those at the start of the epoch."""
        self.delivered = delivered
        self.states = states
        self._loader_resumes = loader_resumes

    def start(self, loader: Any) -> Iterator[Any]:
        """Return an iterator over the rest of the epoch."""
        if self._loader_resumes:
            rest: Iterator[Any] = iter(loader)
            return rest
        if self.states is not None:
            set_random_states(self.states, loader_generators(loader))
        iterator: Iterator[Any] = iter(loader)
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
