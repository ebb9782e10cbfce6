"""IterationStart: what decided the order of a loader's iteration when it started."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch.utils.data import DataLoader

from brain_lightning.ground.ranks import get_rank
from brain_lightning.parts.checkpoints.random_states import random_states, set_random_states


@dataclass
class IterationStart:
    """Random states and sampler epochs at the start of an iteration.

    A resumed iteration is started from the same, so that the samplers give the same order, and
    then the process-wide generators are put back: in the run that was never interrupted, starting
    this iteration had consumed from them long before.
    """

    rank: int
    """The process these random states belong to."""
    random_states: dict[str, Any]
    """Of the process-wide generators."""
    generator_states: list[torch.Tensor]
    """Of the generators that the loader and its samplers own, in the order of own_generators."""
    epochs: list[int | None]
    """Of the samplers that have an epoch, in the order of samplers_of."""
    draws_worker_seed: bool
    """Whether torch drew a seed for the workers; not when workers that persist were there."""
    samplers: list[dict[str, Any]] = field(default_factory=list)
    """What the samplers kept from earlier epochs, from SamplerStates."""

    @classmethod
    def capture(cls, loader: DataLoader[Any], draws_worker_seed: bool) -> IterationStart:
        """Take down the present states, before an iteration of ``loader`` starts."""
        return cls(
            rank=get_rank() or 0,
            random_states=random_states(),
            generator_states=[generator.get_state() for generator in own_generators(loader)],
            epochs=_epochs_of(loader),
            draws_worker_seed=draws_worker_seed,
        )

    @classmethod
    def from_plain(cls, state: dict[str, Any]) -> IterationStart:
        """Build one from what :meth:`as_plain` returned."""
        return cls(**state)

    def as_plain(self) -> dict[str, Any]:
        """Return it as a dict of plain values and tensors."""
        return asdict(self)

    def worker_seed_generator(self, loader: DataLoader[Any]) -> torch.Generator | None:
        """Return the generator that the resumed iteration draws its workers' seed from.

        Where no seed was drawn it must not come from a generator that the samplers use; None is
        the process-wide one.
        """
        if self.draws_worker_seed:
            own: torch.Generator | None = loader.generator
            return own
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())
        return generator

    @contextmanager
    def repeated(self, loader: DataLoader[Any]) -> Iterator[None]:
        """Within the block, an iteration of ``loader`` starts as this one did.

        Generators owned by the loader or its samplers go on from there after the block. Another
        process's random states are not taken over: there the present ones serve.
        """
        present = _epochs_of(loader)
        _set_epochs(loader, self.epochs)
        is_own = self.rank == (get_rank() or 0)
        try:
            with _random_states_kept():
                if is_own:
                    set_random_states(self.random_states)
                    restore_own_generators(loader, self.generator_states)
                yield
        finally:
            _set_epochs(loader, present)


@contextmanager
def _random_states_kept() -> Iterator[None]:
    before = random_states()
    try:
        yield
    finally:
        set_random_states(before)


def is_own_process(start: Mapping[str, Any]) -> bool:
    """Whether :meth:`IterationStart.as_plain` was called on the process of this rank."""
    return bool(start["rank"] == (get_rank() or 0))


def restore_own_generators(loader: DataLoader[Any], states: Sequence[torch.Tensor]) -> None:
    """Set the generators that the loader and its samplers own, in the order of own_generators."""
    generators = own_generators(loader)
    # Another number of them: the loader was built differently, and its own are as good.
    if len(generators) == len(states):
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def repeated_if_known(start: IterationStart | None, loader: DataLoader[Any]) -> Any:
    """Return ``start.repeated(loader)``, or a context that does nothing where there is no start."""
    return nullcontext() if start is None else start.repeated(loader)


def samplers_of(loader: DataLoader[Any]) -> list[Any]:
    """Return the loader's batch sampler or sampler and those within, from the outside inwards."""
    found: list[Any] = []
    waiting: list[Any] = [loader.sampler if loader.batch_sampler is None else loader.batch_sampler]
    while waiting:
        sampler = waiting.pop(0)
        if sampler is None or any(sampler is known for known in found):
            continue
        found.append(sampler)
        waiting.append(getattr(sampler, "sampler", None))
        several = getattr(sampler, "samplers", None)  # ConcatDatasetBatchSampler has a list
        waiting.extend(several if isinstance(several, (list, tuple)) else [])
    return found


def own_generators(loader: DataLoader[Any]) -> list[torch.Generator]:
    """Return the generators that the loader and its samplers were given or made, each once."""
    found: list[torch.Generator] = []
    for owner in (loader, *samplers_of(loader)):
        generator = getattr(owner, "generator", None)
        is_known = any(generator is known for known in found)
        if isinstance(generator, torch.Generator) and not is_known:
            found.append(generator)
    return found


def _epochs_of(loader: DataLoader[Any]) -> list[int | None]:
    return [_epoch_of(sampler) for sampler in samplers_of(loader)]


def _epoch_of(sampler: Any) -> int | None:
    epoch = getattr(sampler, "epoch", None)
    return epoch if isinstance(epoch, int) and hasattr(sampler, "set_epoch") else None


def _set_epochs(loader: DataLoader[Any], epochs: list[int | None]) -> None:
    samplers = samplers_of(loader)
    if len(samplers) != len(epochs):
        return
    for sampler, epoch in zip(samplers, epochs, strict=True):
        # Only where it differs: set_epoch can be costly, and an epoch that a sampler does not keep
        # up to date would be set wrongly within it. A run may be resumed with another sampler.
        if epoch is not None and hasattr(sampler, "set_epoch") and _epoch_of(sampler) != epoch:
            sampler.set_epoch(epoch)
