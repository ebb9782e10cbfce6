"""Callbacks that freeze modules and unfreeze them later, across checkpoints.

BaseFinetuning adds parameter groups to an optimizer while it trains. An optimizer's state dict
names its parameters by number, so it does not say which of them are in which group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakSet

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import BaseFinetuning
from torch.optim import Optimizer

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.lightning_checkpoint import unwrapped_keys
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.optimization.optimizers import discover_optimizers
from brain_lightning.engine.trainer.trainer_callbacks import callbacks_of, pass_over

NAMES = "parameter_names"
"""What a group of a saved optimizer has besides torch's own entries."""

_saving_names: WeakSet[Optimizer] = WeakSet()


def finetuning_callbacks(trainer: pl.Trainer) -> list[BaseFinetuning]:
    """Return the callbacks that freeze and unfreeze."""
    return [each for each in callbacks_of(trainer) if isinstance(each, BaseFinetuning)]


def save_names_of_parameters(brain: BrainProtocol) -> None:
    """Have the optimizers of a run with such a callback save which parameters they have.

    To be called when the optimizers are made and nothing has been recovered yet.
    """
    module = connection_of(brain).module
    if module is None or not finetuning_callbacks(module.trainer):
        return
    for optimizer in discover_optimizers(brain):
        if optimizer not in _saving_names:
            _saving_names.add(optimizer)
            optimizer.register_state_dict_post_hook(_with_names(brain))
            optimizer.register_load_state_dict_pre_hook(_regrouped(brain))


def groups_of(optimizers: Iterable[Optimizer]) -> Callable[[], None]:
    """Return what gives the optimizers the parameter groups back that they have now.

    After a resume the callback puts the groups of the epoch's beginning in their place, with
    learning rates that may have changed since.
    """
    groups = [(optimizer, list(optimizer.param_groups)) for optimizer in optimizers]

    def restore() -> None:
        for optimizer, kept in groups:
            optimizer.param_groups = kept

    return restore


def pass_over_epoch_start(trainer: pl.Trainer, module: pl.LightningModule) -> Callable[[], None]:
    """Keep the callbacks from the beginning of an epoch that is resumed in its middle.

    Lightning, too, does not call the hook there: what it changes is changed already.

    Returns:
        What lets them hear of the next epoch again.
    """
    return pass_over(finetuning_callbacks(trainer), "on_train_epoch_start", module)


def _parameters(brain: BrainProtocol) -> dict[str, Any]:
    """Return all parameters by the names that they have before compiling and wrapping."""
    named = {f"brain_modules.{name}": each for name, each in brain.modules.named_parameters()}
    return unwrapped_keys(named, brain.modules)


def _with_names(brain: BrainProtocol) -> Callable[[Optimizer, dict[str, Any]], dict[str, Any]]:
    def add(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        names = {id(parameter): name for name, parameter in _parameters(brain).items()}
        for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True):
            if all(id(each) in names for each in group["params"]):
                saved[NAMES] = [names[id(each)] for each in group["params"]]
        return state

    return add


def _regrouped(
    brain: BrainProtocol,
) -> Callable[[Optimizer, dict[str, Any]], dict[str, Any] | None]:
    def regroup(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any] | None:
        saved = state["param_groups"]
        parameters = _parameters(brain)
        if not all(set(group.get(NAMES, [None])) <= parameters.keys() for group in saved):
            return None
        optimizer.param_groups = [
            {**group, "params": [_trainable(parameters[name]) for name in group[NAMES]]}
            for group in saved
        ]
        groups = [{k: v for k, v in group.items() if k != NAMES} for group in saved]
        return {**state, "param_groups": groups}

    return regroup


def _trainable(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    # What an optimizer has is not frozen: leave_out_frozen() has seen to it.
    parameter.requires_grad_(True)
    return parameter
