"""Parameter groups in which vectors have no weight decay."""

from __future__ import annotations

from typing import Any

from torch.nn import Module


def without_vector_weight_decay(modules: Module) -> list[dict[str, Any]]:
    """Return two parameter groups for an optimizer: vectors without weight decay, then the rest.

    Biases and the weights of norms are vectors; to pull them towards zero helps nobody.
    """
    trained = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    return [
        {"params": [each for each in trained if each.dim() == 1], "weight_decay": 0.0},
        {"params": [each for each in trained if each.dim() != 1]},
    ]
