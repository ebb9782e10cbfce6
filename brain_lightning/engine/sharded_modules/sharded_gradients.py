"""Norms and checks of gradients of which each process may have a part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from brain_lightning.ground.joint_decision import highest
from brain_lightning.ground.sharded_tensors import is_sharded_tensor


def clip_gradients(parameters: Iterable[torch.Tensor], max_norm: float) -> torch.Tensor:
    """Scale gradients so that their norm is at most ``max_norm``; return what it was.

    Of sharded parameters the norm is that of the whole, over all processes.
    """
    parameters = [each for each in parameters if each.grad is not None]
    sharded = [each for each in parameters if is_sharded_tensor(each)]
    if not sharded:
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    others = [each for each in parameters if not is_sharded_tensor(each)]
    norms = [_norm(group) for group in (sharded, others) if group]
    norm = torch.linalg.vector_norm(torch.stack(norms)) if len(norms) > 1 else norms[0]
    for group in (sharded, others):
        if group:
            torch.nn.utils.clip_grads_with_norm_(group, max_norm, norm)
    return norm


def _norm(parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    norm: Any = torch.nn.utils.get_total_norm([each.grad for each in parameters])  # type: ignore[misc]
    whole: torch.Tensor = norm.full_tensor() if is_sharded_tensor(norm) else norm
    return whole


def nonfinite_gradients(
    parameters: Iterable[tuple[str, torch.nn.Parameter]],
) -> list[tuple[str, torch.nn.Parameter]]:
    """Return the names and parameters with a gradient that is not finite, in any process's part."""
    candidates = [each for each in parameters if each[1].requires_grad and each[1].grad is not None]
    if not candidates:
        return []
    bad = [not bool(_is_finite(parameter.grad)) for _, parameter in candidates]
    if any(is_sharded_tensor(parameter) for _, parameter in candidates):
        bad = [bool(each) for each in highest(*bad)]
    return [each for each, is_bad in zip(candidates, bad, strict=True) if is_bad]


def _is_finite(gradient: Any) -> torch.Tensor:
    here = gradient.to_local() if is_sharded_tensor(gradient) else gradient
    finite: torch.Tensor = torch.isfinite(here).all()
    return finite
