"""Loader arguments that give each process its own share of the training data."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DistributedSampler, IterableDataset, Sampler

from brain_lightning.ground.loggers import get_logger
from brain_lightning.parts.data.samplers import DistributedSamplerWrapper
from brain_lightning.parts.data.stream_share import StreamShare

logger = get_logger(__name__)


def distributed_loader_arguments(
    dataset: Any, loader_kwargs: dict[str, Any], rank: int | None, shuffle: bool = True
) -> tuple[dict[str, Any], Sampler[Any] | None]:
    """Put a sampler in the arguments that yields a process's share; they are changed.

    As in SpeechBrain the processes' shares are equally long, for which some samples are given
    twice, or with ``drop_last`` some not at all.

    Args:
        dataset: the data set. One that is iterated cannot be shared out from outside, which is a
            warning.
        loader_kwargs: arguments of a DataLoader.
        rank: this process; None is the one that the process group says.
        shuffle: whether samples, or the batches of a batch sampler, are shuffled. A sampler that
            was given is, when there is ``shuffle`` in the arguments.

    Returns:
        The arguments, and the sampler whose ``set_epoch`` is to be called, or None.
    """
    if isinstance(dataset, IterableDataset):
        if not isinstance(dataset, StreamShare):
            logger.warning(
                "An IterableDataset cannot be shared out to the processes from outside: unless it "
                "does so itself, all of them see the same data. Give it shard(num_shards, index), "
                "which returns one part."
            )
        return loader_kwargs, None
    drop_last = loader_kwargs.get("drop_last", False)
    given, batches = loader_kwargs.get("sampler"), loader_kwargs.get("batch_sampler")
    sampler: Sampler[Any]
    if given is None and batches is not None:
        sampler = DistributedSamplerWrapper(batches, rank=rank, shuffle=shuffle)
        loader_kwargs["batch_sampler"] = sampler
        return loader_kwargs, sampler
    if given is not None:
        sampler = DistributedSamplerWrapper(
            given, rank=rank, drop_last=drop_last, shuffle=loader_kwargs.get("shuffle", False)
        )
    else:
        sampler = DistributedSampler(dataset, rank=rank, shuffle=shuffle, drop_last=drop_last)
    loader_kwargs["shuffle"] = False  # it is the sampler's now
    loader_kwargs["sampler"] = sampler
    return loader_kwargs, sampler
