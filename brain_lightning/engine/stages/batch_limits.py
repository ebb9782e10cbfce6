"""Which batches a Trainer's ``limit_*_batches`` leave out."""

from __future__ import annotations

import lightning.pytorch as pl


def limits_training(trainer: pl.Trainer) -> bool:
    """Whether the Trainer trains on a part of the training set only."""
    return _is_limit(trainer.limit_train_batches)


def limits_validation(trainer: pl.Trainer) -> bool:
    """Whether the Trainer looks at a part of the validation set only."""
    return _is_limit(trainer.limit_val_batches)


def limits_test(trainer: pl.Trainer) -> bool:
    """Whether the Trainer looks at a part of the test set only."""
    return _is_limit(trainer.limit_test_batches)


def _is_limit(batches: float) -> bool:
    """1.0 is all of them, 1 is one batch."""
    return isinstance(batches, int) or batches != 1.0
