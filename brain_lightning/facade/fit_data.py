"""What ``fit`` and ``evaluate`` accept as data."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader

from brain_lightning.parts.data.looped_loader import LoopedLoader


def is_loader(data: Any) -> bool:
    """Whether ``data`` is iterated as it is; a data set gets a loader."""
    # SpeechBrain's LoopedLoader is known by its name: it is imported in the entry layer only.
    return isinstance(data, (DataLoader, LoopedLoader)) or type(data).__name__ == "LoopedLoader"


def require_batches(train_loader: Any) -> None:
    """See that there is something to train on, as far as a length tells.

    Raises:
        ValueError: there is nothing.
    """
    try:
        length = len(train_loader)
    except (TypeError, NotImplementedError):
        return  # a stream: nobody knows before it is read
    if length == 0:
        raise ValueError(
            "The training set gives no batch. It is empty, or drop_last drops its only batch: "
            "check the data, batch_size and drop_last."
        )
