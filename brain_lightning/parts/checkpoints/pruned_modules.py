"""Modules that ``torch.nn.utils.prune`` has pruned, as Lightning's ``ModelPruning`` does.

While training goes on a pruned module has ``weight_orig`` and ``weight_mask``, and is saved so;
a new one, and one whose pruning was made permanent, has ``weight``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.utils import prune

_ORIGINAL, _MASK = "_orig", "_mask"


def prune_as_in(state_dict: Mapping[str, Any], module: torch.nn.Module) -> None:
    """Prune what is pruned in a state that is to be loaded, and nothing else.

    Optimizers keep their parameters: torch only gives those other names.
    """
    present = module.state_dict()
    for name in _pruned(state_dict) - _pruned(present):
        if name in present:
            owner, parameter = _place(module, name)
            prune.custom_from_mask(owner, parameter, state_dict[name + _MASK])  # type: ignore[no-untyped-call]
    for name in _pruned(present) - _pruned(state_dict):
        if name in state_dict:
            prune.remove(*_place(module, name))  # type: ignore[no-untyped-call]


def _pruned(state_dict: Mapping[str, Any]) -> set[str]:
    return {
        name.removesuffix(_MASK)
        for name in state_dict
        if name.endswith(_MASK) and name.removesuffix(_MASK) + _ORIGINAL in state_dict
    }


def _place(module: torch.nn.Module, name: str) -> tuple[torch.nn.Module, str]:
    owner, _, parameter = name.rpartition(".")
    return module.get_submodule(owner), parameter
