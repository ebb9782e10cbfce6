"""Modules that ``torch.nn.utils.prune`` has pruned, as Lightning's ``ModelPruning`` does.

While training goes on a pruned module has ``weight_orig`` and ``weight_mask``, and is saved so;
a new one, and one whose pruning was made permanent, has ``weight``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

import torch
from torch.nn.utils import prune

_ORIGINAL, _MASK = "_orig", "_mask"

_following: WeakSet[torch.nn.Module] = WeakSet()
"""Modules that are pruned by themselves as what they load is."""


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


def prune_when_loading(module: torch.nn.Module) -> None:
    """Have ``module`` do so whenever it loads a state dict, whoever has it load one.

    Before torch 2.5, which has no public hook for it, nothing is done.
    """
    for part in module.modules():
        has_parameters = any(True for _ in part.parameters(recurse=False))
        is_new = part not in _following and not isinstance(part, torch.jit.ScriptModule)
        if has_parameters and is_new and hasattr(part, "register_load_state_dict_pre_hook"):
            _following.add(part)
            part.register_load_state_dict_pre_hook(_prune_as_loaded)  # type: ignore[no-untyped-call]


def _prune_as_loaded(
    module: torch.nn.Module, state_dict: Mapping[str, Any], prefix: str, *_: Any
) -> None:
    names = [name for name in state_dict if name.startswith(prefix)]
    prune_as_in({name.removeprefix(prefix): state_dict[name] for name in names}, module)


def _pruned(state_dict: Mapping[str, Any]) -> set[str]:
    return {
        name.removesuffix(_MASK)
        for name in state_dict
        if name.endswith(_MASK) and name.removesuffix(_MASK) + _ORIGINAL in state_dict
    }


def _place(module: torch.nn.Module, name: str) -> tuple[torch.nn.Module, str]:
    owner, _, parameter = name.rpartition(".")
    return module.get_submodule(owner), parameter
