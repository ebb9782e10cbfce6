"""Padding on the right: tensors of unequal length become one batch and relative lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch


# IndexError and OSError are what SpeechBrain raises here, so that code catching those goes on.
class PaddingError(ValueError, IndexError, OSError):
    """Tensors cannot be padded to a common shape."""

    def __str__(self) -> str:
        """Return the sentence that the error was made with."""
        return str(self.args[0]) if self.args else ""


def pad_right_to(
    tensor: torch.Tensor,
    target_shape: Sequence[int],
    mode: str = "constant",
    value: float = 0,
) -> tuple[torch.Tensor, list[float]]:
    """Pad every dimension of a tensor at its end, up to a shape.

    Args:
        tensor: any shape.
        target_shape: as many sizes as the tensor has dimensions, none smaller than the tensor's
            own.
        mode, value: as for :func:`torch.nn.functional.pad`.

    Returns:
        The padded tensor and, for every dimension, which part of it (0 to 1) is not padding.

    Raises:
        PaddingError: the shape has another number of dimensions or is too small.
    """
    shape = tuple(tensor.shape)
    fits = len(shape) == len(target_shape) and all(
        target >= size for target, size in zip(target_shape, shape, strict=True)
    )
    if not fits:
        raise PaddingError(
            f"A tensor of shape {shape} cannot be padded to {tuple(target_shape)}: the target "
            "needs as many dimensions, each at least as large."
        )
    missing: list[int] = []
    # torch counts the padding from the last dimension to the first.
    for target, size in reversed(list(zip(target_shape, shape, strict=True))):
        missing += [0, target - size]
    padded = torch.nn.functional.pad(tensor, missing, mode=mode, value=value)
    return padded, [
        _relative_length(size, target) for target, size in zip(target_shape, shape, strict=True)
    ]


def _relative_length(size: int, target: int) -> float:
    # An empty tensor among empty ones has no padding either.
    return size / target if target else 1.0


def batch_pad_right(
    tensors: Sequence[torch.Tensor], mode: str = "constant", value: float = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack tensors that differ in their first dimension, padding the shorter ones at its end.

    Args:
        tensors: at least one tensor, each (time, ...); all dimensions but the first are equal.
        mode, value: as for :func:`torch.nn.functional.pad`.

    Returns:
        The batch (len(tensors), longest time, ...) and the relative lengths (len(tensors),), 0 to
        1.

    Raises:
        PaddingError: there is no tensor, or they differ in more than the first dimension.
    """
    if len(tensors) == 0:
        raise PaddingError("There are no tensors to pad: a batch needs at least one.")
    if len(tensors) == 1:
        return tensors[0].unsqueeze(0), torch.tensor([1.0])
    _require_equal_but_first_dimension(tensors)
    longest = max(tensor.shape[0] for tensor in tensors)
    target_shape = [longest, *tensors[0].shape[1:]]
    padded = [pad_right_to(tensor, target_shape, mode=mode, value=value) for tensor in tensors]
    batch = torch.stack([tensor for tensor, _ in padded])
    return batch, torch.tensor([lengths[0] for _, lengths in padded])


def _require_equal_but_first_dimension(tensors: Sequence[torch.Tensor]) -> None:
    shapes = sorted({tuple(tensor.shape) for tensor in tensors})
    if () in shapes:
        raise PaddingError(
            "A tensor without dimensions has no length and cannot be padded: give tensors of one "
            "dimension (torch.tensor([3]) rather than torch.tensor(3)), or leave its key out of "
            "padded_keys."
        )
    if len({shape[1:] for shape in shapes}) > 1:
        raise PaddingError(
            "Only the first dimension is padded, all others must be equal, but the shapes are "
            + ", ".join(map(str, shapes))
            + "."
        )
