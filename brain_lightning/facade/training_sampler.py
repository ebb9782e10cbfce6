"""Which sampler a training loader gets."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Sampler

from brain_lightning.parts.data.make_dataloader import global_seed
from brain_lightning.parts.data.samplers import ReproducibleRandomSampler


def shuffled_loader_arguments(
    dataset: Any, loader_kwargs: dict[str, Any]
) -> tuple[dict[str, Any], Sampler[Any] | None]:
    """One process: put a reproducible sampler in the place of ``shuffle=True``.

    Returns:
        The arguments, and the sampler whose ``set_epoch`` is to be called, or None.

    Raises:
        ValueError: both ``shuffle`` and ``sampler`` are given, or ``SB_GLOBAL_SEED`` is no integer.
    """
    if not loader_kwargs.get("shuffle", False):
        return loader_kwargs, None
    if loader_kwargs.get("sampler") is not None:
        raise ValueError(
            "train_loader_kwargs has both shuffle=True and a sampler; a loader has one order. "
            "Leave out one of the two."
        )
    sampler = ReproducibleRandomSampler(dataset, seed=global_seed())
    loader_kwargs["sampler"] = sampler
    del loader_kwargs["shuffle"]
    return loader_kwargs, sampler
