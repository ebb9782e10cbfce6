"""Samplers with the same order for the same seed and epoch, and their share for each process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DistributedSampler, RandomSampler, WeightedRandomSampler
from typing_extensions import override

if TYPE_CHECKING:
    _DistributedSampler = DistributedSampler[Any]
else:
    _DistributedSampler = DistributedSampler

DEFAULT_SEED = 563375142
"""SpeechBrain's seed for shuffling, when neither the user nor ``SB_GLOBAL_SEED`` names one."""
DEFAULT_WEIGHTED_SEED = 129491412
"""SpeechBrain's seed for weighted sampling."""


class ReproducibleRandomSampler(RandomSampler):
    """A RandomSampler whose order depends on a seed and the epoch only.

    Call :meth:`set_epoch` before each epoch, else every epoch has the same order.

    Args:
        data_source: what indices are drawn for; its length counts.
        seed: the order of epoch ``e`` is drawn from ``seed + e``.
        epoch: the epoch to start with.
        **kwargs: other arguments of RandomSampler, but for ``generator``.

    Raises:
        ValueError: a generator is given, or the data set is empty.
    """

    def __init__(
        self, data_source: Any, seed: int = DEFAULT_SEED, epoch: int = 0, **kwargs: Any
    ) -> None:
        """Set up the sampler with a generator of its own."""
        _refuse_generator(type(self).__name__, kwargs)
        super().__init__(data_source, **kwargs)
        self.seed = int(seed)
        self.epoch = epoch
        self.generator = torch.Generator()

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration; setting ``epoch`` does the same."""
        self.epoch = epoch

    @override
    def __iter__(self) -> Iterator[int]:
        """Return the indices in the order of this epoch."""
        self.generator.manual_seed(self.seed + self.epoch)
        return super().__iter__()


class ReproducibleWeightedRandomSampler(WeightedRandomSampler):
    """A WeightedRandomSampler whose draws depend on a seed and the epoch only.

    Call :meth:`set_epoch` before each epoch, else every epoch has the same draws.

    Args:
        weights: one weight for each index; they need not sum to one.
        num_samples: how many indices an epoch has.
        replacement: whether an index can be drawn again in the same epoch.
        seed: the indices of epoch ``e`` are drawn from ``seed + e``.
        epoch: the epoch to start with.
        **kwargs: other arguments of WeightedRandomSampler, but for ``generator``.

    Raises:
        ValueError: a generator is given.
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool,
        seed: int = DEFAULT_WEIGHTED_SEED,
        epoch: int = 0,
        **kwargs: Any,
    ) -> None:
        """Set up the sampler with a generator of its own."""
        _refuse_generator(type(self).__name__, kwargs)
        super().__init__(weights, num_samples, replacement, **kwargs)
        self.seed = int(seed)
        self.epoch = epoch
        self.generator = torch.Generator()

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of the next iteration; setting ``epoch`` does the same."""
        self.epoch = epoch

    @override
    def __iter__(self) -> Iterator[int]:
        """Return the indices drawn for this epoch."""
        self.generator.manual_seed(self.seed + self.epoch)
        return super().__iter__()


def _refuse_generator(name: str, kwargs: dict[str, Any]) -> None:
    if "generator" in kwargs:
        raise ValueError(
            f"A generator was given to {name}, which has its own: give a seed instead."
        )


class DistributedSamplerWrapper(_DistributedSampler):
    """Give each process its own share of what any sampler or batch sampler yields.

    The wrapped sampler runs whole on every process, so it must yield the same there.

    Args:
        sampler: a sampler or batch sampler with a length.
        *args, **kwargs: the other arguments of :class:`torch.utils.data.DistributedSampler`.
    """

    def __init__(self, sampler: Any, *args: Any, **kwargs: Any) -> None:
        """Wrap the sampler."""
        super().__init__(sampler, *args, **kwargs)
        self.sampler: Iterable[Any] = sampler

    @override
    def __iter__(self) -> Iterator[Any]:
        """Return this process's share."""
        elements = list(self.sampler)
        # The sampler may yield more or less than it did in an earlier epoch.
        share: DistributedSampler[Any] = DistributedSampler(
            elements,  # type: ignore[arg-type]  # only its length is asked for
            num_replicas=self.num_replicas,
            rank=self.rank,
            shuffle=self.shuffle,
            seed=self.seed,
            drop_last=self.drop_last,
        )
        share.set_epoch(self.epoch)
        self.num_samples, self.total_size = share.num_samples, share.total_size
        return iter([elements[position] for position in share])

    @override
    def set_epoch(self, epoch: int) -> None:
        """Set the epoch here and, where it has one, in the wrapped sampler."""
        super().set_epoch(epoch)
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)
