"""make_dataloader: a loader with SpeechBrain's defaults for any data set."""

from __future__ import annotations

import os
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from brain_lightning.parts.data.dataset_kinds import (
    batches_itself,
    require_usable,
    yields_example_dicts,
)
from brain_lightning.parts.data.distributed_arguments import distributed_loader_arguments
from brain_lightning.parts.data.looped_loader import LoopedLoader
from brain_lightning.parts.data.padded_batch import PaddedBatch
from brain_lightning.parts.data.samplers import (
    DEFAULT_SEED,
    ReproducibleRandomSampler,
)
from brain_lightning.parts.data.saveable_loader import SaveableDataLoader

SEED_VARIABLE = "SB_GLOBAL_SEED"
"""SpeechBrain's environment variable for the seed of shuffling."""


def make_dataloader(
    dataset: Any, looped_nominal_epoch: int | None = None, **loader_kwargs: Any
) -> DataLoader[Any] | LoopedLoader:
    """Make a loader for a data set.

    - Examples that are dicts (SpeechBrain's DynamicItemDataset, or any class with
      ``yields_example_dicts = True``) are collated by PaddedBatch.
    - ``shuffle`` is done by a ReproducibleRandomSampler, whose seed is ``SB_GLOBAL_SEED``.
    - A webdataset pipeline makes its own batches (``batch_size=None``).

    Each of these gives way to what ``loader_kwargs`` says. The loader is a SaveableDataLoader; for
    an IterableDataset only when that has ``state_dict()`` and ``load_state_dict()``.

    Args:
        dataset: anything with ``__getitem__`` and ``__len__``, or an IterableDataset.
        looped_nominal_epoch: loop without an end, and call this many batches an epoch (see
            LoopedLoader).
        **loader_kwargs: arguments of :class:`torch.utils.data.DataLoader`.

    Raises:
        TypeError: the data set is of no kind that can be loaded.
        ValueError: ``shuffle`` stands beside a sampler or an IterableDataset, or ``SB_GLOBAL_SEED``
            is no integer.
    """
    require_usable(dataset, loader_kwargs)
    if yields_example_dicts(dataset):
        loader_kwargs.setdefault("collate_fn", PaddedBatch)
    if loader_kwargs.get("shuffle", False):
        _require_room_for_shuffling(dataset, loader_kwargs)
        del loader_kwargs["shuffle"]
        loader_kwargs["sampler"] = ReproducibleRandomSampler(dataset, seed=global_seed())
    if batches_itself(dataset):
        loader_kwargs.setdefault("batch_size", None)
    loader = _loader_class(dataset)(dataset, **loader_kwargs)
    if looped_nominal_epoch is None:
        return loader
    return LoopedLoader(loader, looped_nominal_epoch)


def _loader_class(dataset: Any) -> type[DataLoader[Any]]:
    has_state = hasattr(dataset, "state_dict") and hasattr(dataset, "load_state_dict")
    if isinstance(dataset, IterableDataset) and not has_state:
        return DataLoader
    return SaveableDataLoader


def _require_room_for_shuffling(dataset: Any, loader_kwargs: dict[str, Any]) -> None:
    if isinstance(dataset, IterableDataset):
        raise ValueError(
            "shuffle=True was given for an IterableDataset, which decides its order itself: "
            "shuffle within the data set."
        )
    for name in ("sampler", "batch_sampler"):
        if loader_kwargs.get(name) is not None:
            raise ValueError(
                f"Both shuffle=True and a {name} were given, but each decides the order: give one "
                "of them."
            )


def global_seed() -> int:
    """Return the seed for shuffling: ``SB_GLOBAL_SEED``, or SpeechBrain's default.

    Raises:
        ValueError: the environment variable is no integer.
    """
    text = os.environ.get(SEED_VARIABLE, str(DEFAULT_SEED))
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(
            f"The environment variable {SEED_VARIABLE} is {text!r}, but must be an integer: the "
            "seed for shuffling."
        ) from error


def distributed_loader_specifics(
    distributed_launch: bool, rank: int | None, dataset: Any, loader_kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Return loader arguments that give each process its own share of the data.

    A sampler or batch sampler is wrapped in a DistributedSamplerWrapper; without either comes a
    DistributedSampler. As in SpeechBrain that one, and the one around a batch sampler, shuffle.

    Args:
        distributed_launch: whether there are several processes; if not, the arguments come back as
            they are.
        rank: this process's number.
        dataset: the data set to load; nothing can be done for an IterableDataset, which is a
            warning.
        loader_kwargs: arguments of a DataLoader; not changed.
    """
    loader_kwargs = dict(loader_kwargs)
    if distributed_launch:
        loader_kwargs, _ = distributed_loader_arguments(dataset, loader_kwargs, rank)
    return loader_kwargs
