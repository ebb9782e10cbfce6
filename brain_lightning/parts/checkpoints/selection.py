"""Which checkpoint to load and which to delete: decisions on a list, without touching files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from brain_lightning.ground.caller_warnings import warn_caller
from brain_lightning.parts.checkpoints.checkpoint import Checkpoint, ckpt_recency

ImportanceKey = Callable[[Checkpoint], Any]
Predicate = Callable[[Checkpoint], Any]


def rank_checkpoints(
    checkpoints: Iterable[Checkpoint],
    importance_key: ImportanceKey | None = None,
    max_key: str | None = None,
    min_key: str | None = None,
    ckpt_predicate: Predicate | None = None,
) -> list[Checkpoint]:
    """Return the checkpoints that the predicate lets through, the most important first.

    Without a key the newest come first; with ``max_key`` or ``min_key`` only checkpoints whose meta
    has that key are returned. Among equals the newest comes first.

    Raises:
        ValueError: an importance key is given beside ``max_key`` or ``min_key``.
    """
    key = _single_key(importance_key, max_key, min_key)
    name = None if importance_key is not None else (max_key or min_key)
    candidates = [
        checkpoint
        for checkpoint in checkpoints
        if (name is None or name in checkpoint.meta)
        and (ckpt_predicate is None or ckpt_predicate(checkpoint))
    ]
    newest_first = sorted(candidates, key=ckpt_recency, reverse=True)
    return sorted(newest_first, key=key, reverse=True)


def _single_key(
    importance_key: ImportanceKey | None, max_key: str | None, min_key: str | None
) -> ImportanceKey:
    if importance_key is not None:
        if max_key or min_key:
            raise ValueError(
                "Only one of importance_key, max_key and min_key can choose a checkpoint, "
                f"but importance_key was given with max_key={max_key!r}, min_key={min_key!r}."
            )
        return importance_key
    if max_key and min_key:
        warn_caller(
            f"Of max_key={max_key!r} and min_key={min_key!r} only max_key is used, as in "
            "SpeechBrain. Give one of them."
        )
    if max_key:
        return lambda checkpoint: _rank_of(checkpoint, max_key, sign=1)
    if min_key:
        return lambda checkpoint: _rank_of(checkpoint, min_key, sign=-1)
    return ckpt_recency


def _rank_of(checkpoint: Checkpoint, key: str, sign: int) -> Any:
    value = checkpoint.meta[key]
    if not isinstance(value, (int, float)):
        raise ValueError(
            f"The checkpoint {checkpoint.path} has {key}={value!r} in its meta, which cannot be "
            "compared; max_key and min_key need a number."
        )
    # Not-a-number has no place in an order; it must never be what is taken for the best.
    return -math.inf if math.isnan(value) else sign * value


def check_number_to_keep(num_to_keep: int) -> None:
    """Raise ValueError for a negative number of checkpoints to keep."""
    if num_to_keep < 0:
        raise ValueError(f"num_to_keep is {num_to_keep}; give 0 or more.")


def choose_deletions(
    checkpoints: Sequence[Checkpoint],
    num_to_keep: int,
    importance_keys: Iterable[ImportanceKey],
    max_keys: Iterable[str],
    min_keys: Iterable[str],
    ckpt_predicate: Predicate | None,
) -> list[Checkpoint]:
    """Return the checkpoints to delete, oldest first.

    Each key protects the ``num_to_keep`` checkpoints that it ranks highest. Only checkpoints that
    the predicate lets through, and that at least one of the keys can rank, are ever returned.
    """
    orders: list[dict[str, Any]] = [{"min_key": key} for key in min_keys]
    orders += [{"max_key": key} for key in max_keys]
    orders += [{"importance_key": key} for key in importance_keys]
    candidates: set[Checkpoint] = set()
    protected: set[Checkpoint] = set()
    for order in orders:
        ranked = rank_checkpoints(checkpoints, ckpt_predicate=ckpt_predicate, **order)
        candidates.update(ranked)
        protected.update(ranked[:num_to_keep])
    return sorted(candidates - protected, key=ckpt_recency)
