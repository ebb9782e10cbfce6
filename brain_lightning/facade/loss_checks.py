"""What a loss must be."""

from __future__ import annotations

from typing import Any

import torch


def require_scalar_loss(brain: object, loss: Any) -> None:
    """Check what ``compute_objectives`` returned.

    Raises:
        TypeError: it is no tensor.
        ValueError: it has more or fewer elements than one.
    """
    if not isinstance(loss, torch.Tensor):
        raise TypeError(
            f"{type(brain).__name__}.compute_objectives() must return the loss as a tensor, "
            f"it returned {type(loss).__name__}."
        )
    if loss.numel() != 1:
        raise ValueError(
            f"{type(brain).__name__}.compute_objectives() must return a loss of one element, it "
            f"returned a tensor of shape {tuple(loss.shape)}. Take its mean or sum."
        )
