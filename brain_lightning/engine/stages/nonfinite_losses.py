"""What is raised when too many losses are not finite."""

from __future__ import annotations


def patience_exhausted(count: int, patience: int) -> ValueError:
    """Make the error for ``count`` batches of an epoch without a finite loss."""
    return ValueError(
        f"The loss of {count} batches in this epoch is not finite, nonfinite_patience allows "
        f"{patience}. To find the cause, call fit() within torch.autograd.detect_anomaly()."
    )
