"""Which sampler a training loader gets."""

from __future__ import annotations

import os
from typing import Any

from torch.utils.data import DistributedSampler, IterableDataset, Sampler

from brain_lightning.ground.loggers import get_logger
from brain_lightning.parts.data.samplers import (
    DEFAULT_SEED,
    DistributedSamplerWrapper,
    ReproducibleRandomSampler,
)

logger = get_logger(__name__)


def shuffled_loader_arguments(
    dataset: Any, loader_kwargs: dict[str, Any]
) -> tuple[dict[str, Any], Sampler[Any] | None]:
    """One process: put a reproducible sampler in the place of ``shuffle=True``.

    Returns:
        The arguments, and the sampler whose ``set_epoch`` is to be called, or None.

    Raises:
        ValueError: both ``shuffle`` and ``sampler`` are given.
    """
    if not loader_kwargs.get("shuffle", False):
        return loader_kwargs, None
    if loader_kwargs.get("sampler") is not None:
        raise ValueError(
            "train_loader_kwargs has both shuffle=True and a sampler; a loader has one order. "
            "Leave out one of the two."
        )
    seed = int(os.environ.get("SB_GLOBAL_SEED", DEFAULT_SEED))
    sampler = ReproducibleRandomSampler(dataset, seed=seed)
    loader_kwargs["sampler"] = sampler
    del loader_kwargs["shuffle"]
    return loader_kwargs, sampler


def distributed_loader_arguments(
    dataset: Any, loader_kwargs: dict[str, Any], rank: int, sorting: str | None
) -> tuple[dict[str, Any], Sampler[Any] | None]:
    """Several processes: give each its share of the samples or batches.

    Args:
        dataset: the data set.
        loader_kwargs: arguments for the loader.
        rank: this process.
        sorting: the recipe's ``hparams.sorting``; all but "random" keeps the order.

    Returns:
        The arguments, and the sampler whose ``set_epoch`` is to be called, or None.
    """
    if isinstance(dataset, IterableDataset):
        logger.warning(
            "An IterableDataset is not split over the processes: each gets all of it, unless the "
            "data set looks at its rank."
        )
        return loader_kwargs, None
    shuffle = sorting is None or sorting == "random"
    drop_last = loader_kwargs.get("drop_last", False)
    given = loader_kwargs.get("sampler")
    batches = loader_kwargs.get("batch_sampler")
    sampler: Sampler[Any]
    if given is not None:
        sampler = DistributedSamplerWrapper(
            given, rank=rank, drop_last=drop_last, shuffle=loader_kwargs.get("shuffle", False)
        )
    elif batches is not None:
        sampler = DistributedSamplerWrapper(batches, rank=rank, shuffle=shuffle)
        loader_kwargs["batch_sampler"] = sampler
        return loader_kwargs, sampler
    else:
        sampler = DistributedSampler(dataset, rank=rank, shuffle=shuffle, drop_last=drop_last)
    loader_kwargs["shuffle"] = False
    loader_kwargs["sampler"] = sampler
    return loader_kwargs, sampler
