"""What the main process must know of the others to save a checkpoint that all resume exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.unsaved_training import UnsavedTraining
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.processes.gradient_exchange import whole_gradients
from brain_lightning.engine.trainer.placement import runs_among_others
from brain_lightning.ground.ranks import get_rank, is_distributed_initialized
from brain_lightning.parts.checkpoints.gathering import others_at_hand
from brain_lightning.parts.checkpoints.random_states import random_states, set_random_states


@dataclass
class RankStates:
    """Of all processes, as they were when the moment of saving began."""

    random_states: list[dict[str, Any]] = field(default_factory=list)
    loaders: list[dict[str, Any] | None] = field(default_factory=list)
    """Where each process's training loader was, as far as loaders do not save that themselves."""
    module_counters: list[dict[str, Any]] = field(default_factory=list)
    """What each process's modules counted beside their state."""
    training_notes: list[dict[str, Any]] = field(default_factory=list)
    """What the recipe noted on each Brain at the end of TRAIN, for the validation in progress."""
    iterations: list[list[dict[str, Any]]] = field(default_factory=list)
    """Where each process's loaders are that parts of the recipe draw from."""
    gradients: dict[str, torch.Tensor] | None = None
    """What waits for a step, of all processes; None when it is the same on all of them."""
    unsaved_training: dict[str, dict[str, Any]] | None = None
    """What is sharded of the weights and optimizers that no recoverable saves, whole."""


_gathered: MutableMapping[object, RankStates] = WeakIdKeyDictionary()


@contextmanager
def rank_states_known(brain: BrainProtocol, gradients: bool = False) -> Iterator[None]:
    """Let checkpoints that are saved within have the states of every process.

    All processes enter together. Only the main one saves, and recipes may let it call the save
    alone, so the states are sent beforehand.

    Args:
        brain: the recipe.
        gradients: whether gradients may have accumulated.
    """
    if brain in _gathered or not runs_among_others(brain):
        yield
        return
    everyones = states_of_all_ranks(_own_states(brain))
    mean = whole_gradients(brain.modules)
    if mean is None and gradients:
        mean = _mean_gradients(brain)
    by_kind = {kind: [own[kind] for own in everyones] for kind in everyones[0]}
    unsaved = UnsavedTraining.sharded_state(brain)
    _gathered[brain] = RankStates(**by_kind, gradients=mean, unsaved_training=unsaved)
    try:
        with others_at_hand(brain.checkpointer):
            yield
    finally:
        del _gathered[brain]


def _own_states(brain: BrainProtocol) -> dict[str, Any]:
    connection = connection_of(brain)
    run, counters = connection.fit_run, connection.module_counters
    return {
        "random_states": random_states(),
        "loaders": None if run is None else run.loader_place,
        "module_counters": {} if counters is None else counters.changed(brain.modules),
        "training_notes": {} if run is None else run.training_notes,
        "iterations": iterations_of_parts(brain),
    }


def iterations_of_parts(brain: BrainProtocol) -> list[dict[str, Any]]:
    """Where loaders are that parts of the recipe draw from while the Brain's own loop trains."""
    run = connection_of(brain).fit_run
    return [] if run is None else run.iterations_of_parts


def states_of_all_ranks(own: Any) -> list[Any]:
    """Return what every process gives, by rank; all call this together."""
    states: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(states, own)
    return states


def known_rank_states(brain: BrainProtocol) -> RankStates:
    """Return what was gathered, or nothing."""
    return _gathered.get(brain, RankStates())


def _mean_gradients(brain: BrainProtocol) -> dict[str, torch.Tensor] | None:
    """The mean over the processes, which DDP would have taken had it exchanged them.

    Returns:
        None after a batch in which DDP did exchange them.
    """
    if brain.step % brain.grad_accumulation_factor == 0:
        return None
    means = {}
    for name, parameter in brain.modules.named_parameters():
        if parameter.grad is None:
            continue
        mean = parameter.grad.detach().clone()
        torch.distributed.all_reduce(mean)
        means[name] = (mean / torch.distributed.get_world_size()).cpu()
    return means


def set_own_random_states(main: Mapping[str, Any], all_ranks: list[Mapping[str, Any]]) -> None:
    """Put this process's generators into its states.

    Args:
        main: the main process's states.
        all_ranks: every process's, by rank; empty in a checkpoint of one process.
    """
    rank = (get_rank() or 0) if is_distributed_initialized() else 0
    if rank < len(all_ranks):
        set_random_states(all_ranks[rank])
    elif rank == 0:
        set_random_states(main)
    # A process that was not there draws as it does: taking another one's states would make it
    # draw the same as that one.
