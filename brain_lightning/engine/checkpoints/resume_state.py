"""What an exact resume needs and SpeechBrain's checkpoint format has no place for, at a save.

Random states, the number of non-finite losses in this epoch, gradients that have accumulated, and
the states of callbacks. SpeechBrain's resume does without, so dropout draws other numbers after
it; ours continues as if the run had never been interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import lightning
import lightning.pytorch as pl
import torch

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.sessions import fits_begun, session_of
from brain_lightning.engine.checkpoints.shown_rates import shown_rates
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.logs.logger_continuation import logger_states
from brain_lightning.engine.logs.train_log_repeats import train_log_sizes
from brain_lightning.engine.optimization import uncounted_steps
from brain_lightning.engine.processes.rank_states import iterations_of_parts, known_rank_states
from brain_lightning.ground.sharded_tensors import is_sharded_tensor
from brain_lightning.parts.checkpoints.random_states import random_states
from brain_lightning.parts.checkpoints.sharded_states import is_sharded

if TYPE_CHECKING:
    from brain_lightning.engine.brain_module import BrainModule


def capture_resume_state(brain: BrainProtocol) -> dict[str, Any]:
    """Return tensors and plain values that :class:`Resume` continues from."""
    module = connection_of(brain).module
    fitting = module is not None and module.trainer.state.fn == "fit"
    state = {
        "session": session_of(brain.checkpointer),
        "fit": max(1, fits_begun(brain.checkpointer)),  # what is saved before it belongs to it
        "random_states": random_states(),
        "nonfinite_count": getattr(brain, "nonfinite_count", 0),
        uncounted_steps.KEY: connection_of(brain).uncounted_steps,
        "shown_rates": shown_rates(brain.checkpointer),
        "train_logs": train_log_sizes(brain, connection_of(brain).repeated_lines),
    }
    of_fit = _state_of_fit(module) if fitting and module is not None else _STATE_OUTSIDE_OF_FIT
    return {**state, **_state_of_ranks(brain), **_state_of_unsaved(brain), **of_fit}


def _state_of_ranks(brain: BrainProtocol) -> dict[str, Any]:
    """What each process has of its own, as far as it was gathered."""
    ranks = known_rank_states(brain)
    return {
        "gradients": _gradients(brain) if ranks.gradients is None else ranks.gradients,
        "random_states_of_ranks": ranks.random_states,
        "loaders_of_ranks": ranks.loaders,
        "module_counters_of_ranks": ranks.module_counters,
        "training_notes_of_ranks": ranks.training_notes,
        "iterations_of_ranks": ranks.iterations,
    }


def _state_of_unsaved(brain: BrainProtocol) -> dict[str, Any]:
    """What no recoverable has of the recipe's modules, optimizers and schedulers."""
    connection = connection_of(brain)
    order, counters = connection.gradient_order, connection.module_counters
    progress, training = connection.unsaved_progress, connection.unsaved_training
    of_ranks = known_rank_states(brain).unsaved_training
    return {
        "gradient_orders": None if order is None else order.of_all(),
        "module_counters": {} if counters is None else counters.changed(brain.modules),
        "unsaved_progress": {} if progress is None else progress.changed(brain),
        "unsaved_training": {} if training is None else training.state(brain, of_ranks),
    }


_STATE_OUTSIDE_OF_FIT: Mapping[str, Any] = {
    "iterations": [],
    "loggers": [],
    "callbacks": {},
    "callback_checkpoint": {},
    "total_batches": None,
    "validation_due": False,
    "states_before_batch_ahead": None,
    "loader": None,
}


def _state_of_fit(module: BrainModule) -> dict[str, Any]:
    """Where a fit is."""
    state = {
        **_STATE_OUTSIDE_OF_FIT,
        "iterations": iterations_of_parts(module.brain),
        "loggers": logger_states(module.trainer),
        "callbacks": _callback_states(module.trainer),
        "callback_checkpoint": _callback_checkpoint(module),
    }
    run = module.fit_run
    if run is not None:
        state |= run.validation_schedule(module.trainer)
        state["states_before_batch_ahead"] = run.states_before_batch_ahead
        state["loader"] = run.loader_place
    return state


def _gradients(brain: BrainProtocol) -> dict[str, torch.Tensor]:
    """Gradients that wait for a step: accumulated, or of an optimizer that is frozen for now.

    ``optimizers_step`` leaves none where every optimizer stepped.
    """
    return {
        name: parameter.grad.detach()
        for name, parameter in brain.modules.named_parameters()
        if parameter.grad is not None and not is_sharded_tensor(parameter.grad)
    }


def _callback_states(trainer: Any) -> dict[str, Any]:
    states = {callback.state_key: callback.state_dict() for callback in trainer.callbacks}
    return {key: state for key, state in states.items() if state}


def checkpoint_writers(trainer: Any) -> list[pl.Callback]:
    """Return the callbacks that write into Lightning's checkpoints."""
    base = pl.Callback.on_save_checkpoint
    return [each for each in trainer.callbacks if type(each).on_save_checkpoint is not base]


_SAVED_ELSEWHERE = ("callbacks", "optimizer_states", "lr_schedulers")
"""What callbacks find in a checkpoint of Lightning's and ours has in other places."""


def _callback_checkpoint(module: Any) -> dict[str, Any]:
    """Return what callbacks write into Lightning's checkpoints, such as averaged weights."""
    trainer = module.trainer
    writers = checkpoint_writers(trainer)
    if not writers:
        return {}
    # What is sharded cannot be had here, where the main process is alone.
    whole = not is_sharded(module)
    checkpoint: dict[str, Any] = {
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": module.state_dict() if whole else {},
        "callbacks": _callback_states(trainer),
        "optimizer_states": [each.state_dict() for each in trainer.optimizers if whole],
        "lr_schedulers": [each.scheduler.state_dict() for each in trainer.lr_scheduler_configs],
    }
    for callback in writers:
        callback.on_save_checkpoint(trainer, module, checkpoint)
    return {name: value for name, value in checkpoint.items() if name not in _SAVED_ELSEWHERE}
