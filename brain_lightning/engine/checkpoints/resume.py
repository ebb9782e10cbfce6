"""What an exact resume needs and SpeechBrain's checkpoint format has no place for.

Random states, the number of non-finite losses in this epoch, gradients that have accumulated, and
the states of callbacks. SpeechBrain's resume does without, so dropout draws other numbers after
it; ours continues as if the run had never been interrupted.
"""

from __future__ import annotations

import copy
import functools
import itertools
import os
import uuid
from collections.abc import Mapping, MutableMapping
from typing import Any

import lightning
import lightning.pytorch as pl
import torch
from torch.utils.weak import WeakIdKeyDictionary

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.module_counters import restore_counters
from brain_lightning.engine.checkpoints.shown_rates import show_rates, shown_rates
from brain_lightning.engine.checkpoints.unsaved_progress import restore_progress
from brain_lightning.engine.checkpoints.unsaved_training import restore_training
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.logs.logger_continuation import logger_states
from brain_lightning.engine.logs.train_log_repeats import RepeatedLines, train_log_sizes
from brain_lightning.engine.optimization import uncounted_steps
from brain_lightning.engine.processes.gradient_order import Orders, lay_out
from brain_lightning.engine.processes.rank_states import (
    iterations_of_parts,
    known_rank_states,
    set_own_random_states,
)
from brain_lightning.ground.failure_board import session_of_group
from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.ranks import get_rank
from brain_lightning.ground.sharded_tensors import is_sharded_tensor
from brain_lightning.parts.checkpoints.random_states import random_states, set_random_states
from brain_lightning.parts.checkpoints.sharded_states import is_sharded, shard_if_whole
from brain_lightning.parts.data.iterations_in_use import let_them_go_on

logger = get_logger(__name__)

_numbers = itertools.count()
_counted: MutableMapping[object, int] = WeakIdKeyDictionary()
_fits: MutableMapping[object, int] = WeakIdKeyDictionary()


def capture_resume_state(brain: BrainProtocol) -> dict[str, Any]:
    """Return tensors and plain values that :class:`Resume` continues from."""
    module = connection_of(brain).module
    fitting = module is not None and module.trainer.state.fn == "fit"
    ranks = known_rank_states(brain)
    state: dict[str, Any] = {
        "session": session_of(brain.checkpointer),
        "fit": max(1, fits_begun(brain.checkpointer)),  # what is saved before it belongs to it
        "random_states": random_states(),
        "random_states_of_ranks": ranks.random_states,
        "nonfinite_count": getattr(brain, "nonfinite_count", 0),
        "gradients": _gradients(brain) if ranks.gradients is None else ranks.gradients,
        uncounted_steps.KEY: connection_of(brain).uncounted_steps,
        "total_batches": None,
        "loggers": [],
        "validation_due": False,
        "states_before_batch_ahead": None,
        "loader": None,
        "loaders_of_ranks": ranks.loaders,
        "module_counters_of_ranks": ranks.module_counters,
        "training_notes_of_ranks": ranks.training_notes,
        "module_counters": {},
        "gradient_orders": None,
        "unsaved_progress": {},
        "unsaved_training": {},
        "iterations": iterations_of_parts(brain) if fitting else [],
        "iterations_of_ranks": ranks.iterations,
        "callbacks": {},
        "callback_checkpoint": {},
        "shown_rates": shown_rates(brain.checkpointer),
        "train_logs": train_log_sizes(brain, connection_of(brain).repeated_lines),
    }
    order = connection_of(brain).gradient_order
    if order is not None:
        state["gradient_orders"] = order.of_all()
    counters = connection_of(brain).module_counters
    if counters is not None:
        state["module_counters"] = counters.changed(brain.modules)
    progress = connection_of(brain).unsaved_progress
    if progress is not None:
        state["unsaved_progress"] = progress.changed(brain)
    training = connection_of(brain).unsaved_training
    if training is not None:
        state["unsaved_training"] = training.state(brain, ranks.unsaved_training)
    if fitting and module is not None:
        if module.fit_run is not None:
            state |= module.fit_run.validation_schedule(module.trainer)
            state["states_before_batch_ahead"] = module.fit_run.states_before_batch_ahead
            state["loader"] = module.fit_run.loader_place
        state["loggers"] = logger_states(module.trainer)
        state["callbacks"] = _callback_states(module.trainer)
        state["callback_checkpoint"] = _callback_checkpoint(module)
    return state


def session_of(checkpointer: object) -> str:
    """A name for the run that saves with this very checkpointer.

    When it recovers a checkpoint of its own, nothing was interrupted: a second ``fit()``, or a
    second Brain with the same checkpointer, goes on as in SpeechBrain.
    """
    if checkpointer is None:
        return ""
    count_checkpointer(checkpointer)
    return f"{session_of_group() or _name_of_process(os.getpid())}-{_counted[checkpointer]}"


@functools.cache
def _name_of_process(pid: int) -> str:
    # A forked process has the memory of its parent, and is another one.
    return f"{pid}-{uuid.uuid4().hex}"


def count_checkpointer(checkpointer: object) -> None:
    """Number a checkpointer; several processes use the same ones first in the same order."""
    if checkpointer not in _counted:
        _counted[checkpointer] = next(_numbers)


def count_fit(checkpointer: object) -> None:
    """Count a ``fit()`` whose Brain has this checkpointer, when it begins."""
    if checkpointer is not None:
        _fits[checkpointer] = fits_begun(checkpointer) + 1


def fits_begun(checkpointer: object) -> int:
    """How many they are by now."""
    return 0 if checkpointer is None else _fits.get(checkpointer, 0)


def resume_from(
    state: Mapping[str, Any] | None, checkpointer: object, end_of_epoch: bool
) -> Resume | None:
    """Return what to resume from, or None where the checkpoint is none of an interrupted run.

    Nor is it one to resume from where it was saved in an earlier ``fit()`` of the script than the
    one in progress: the run that was never interrupted also recovers what it saved before, such as
    a second Brain what the first one with the same checkpointer saved, and goes on from there with
    the random numbers of its own.
    """
    if state is None or state["session"] == session_of(checkpointer):
        return None
    this_fit = fits_begun(checkpointer)
    return None if state.get("fit", this_fit) < this_fit else Resume(state, end_of_epoch)


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


def _checkpoint_writers(trainer: Any) -> list[pl.Callback]:
    base = pl.Callback.on_save_checkpoint
    return [each for each in trainer.callbacks if type(each).on_save_checkpoint is not base]


_SAVED_ELSEWHERE = ("callbacks", "optimizer_states", "lr_schedulers")
"""What callbacks find in a checkpoint of Lightning's and ours has in other places."""


def _callback_checkpoint(module: Any) -> dict[str, Any]:
    """Return what callbacks write into Lightning's checkpoints, such as averaged weights."""
    trainer = module.trainer
    writers = _checkpoint_writers(trainer)
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


_OF_THE_PROCESS = frozenset(
    {"session", "fit", "loggers", "callbacks", "callback_checkpoint", "train_logs"}
)
"""What is the saving process's own before it has come to where it goes on from, too."""


class Resume:
    """A state that was recovered at the start of a fit, and waits for the moment to go on from.

    After an end-of-epoch checkpoint that is before the next epoch is opened; after one from the
    middle of an epoch it is when the loader is about to give the first batch.
    """

    def __init__(self, state: Mapping[str, Any], end_of_epoch: bool) -> None:
        """Wait with ``state``, from :func:`capture_resume_state`."""
        self._state = state
        self._end_of_epoch = end_of_epoch

    @property
    def is_in_epoch(self) -> bool:
        """Whether the epoch to go on with has begun."""
        return not self._end_of_epoch

    @property
    def still_to_come(self) -> dict[str, Any]:
        """What a checkpoint has to have of it that is saved before the run goes on from it."""
        return {name: self._state[name] for name in self._state.keys() - _OF_THE_PROCESS}

    def restore_callbacks(self, trainer: Any) -> None:
        """Give the callbacks their states back, as Lightning does from a checkpoint of its own."""
        states = dict(self._state["callbacks"])
        for callback in trainer.callbacks:
            state = states.pop(callback.state_key, None)
            if state:
                callback.load_state_dict(copy.deepcopy(state))  # some take it to pieces
        self._restore_callback_checkpoint(trainer)
        for key in states:
            logger.warning(
                "The checkpoint has the state of a callback that this run does not have: %s", key
            )

    def _restore_callback_checkpoint(self, trainer: Any) -> None:
        checkpoint = self._state.get("callback_checkpoint")
        if checkpoint:
            found = {**checkpoint, "callbacks": self._state["callbacks"]}
            for callback in _checkpoint_writers(trainer):
                callback.on_load_checkpoint(trainer, trainer.lightning_module, found)

    @property
    def logger_states(self) -> list[dict[str, Any]]:
        """Where the loggers of the interrupted run wrote."""
        return list(self._state.get("loggers", []))

    def repeated_lines(self, brain: BrainProtocol) -> RepeatedLines:
        """Return what the train logs have after the checkpoint."""
        return RepeatedLines(brain, self._state.get("train_logs", {}))

    def before_epoch(self, brain: BrainProtocol) -> None:
        """Go on, if the checkpoint was saved at the end of an epoch.

        One that a recipe saves in ``on_stage_end(TRAIN)`` still has the epoch's numbers, which are
        set back right after that moment.
        """
        if self._end_of_epoch:
            brain.step = 0
            brain.avg_train_loss = 0.0
            self.restore_modules(brain)
            self.set_random_states()

    def restore_modules(self, brain: BrainProtocol) -> None:
        """Set what the modules have outside of their ``state_dict``: counts, and gradients.

        After an epoch those are of optimizers that are frozen, which nobody has zeroed. Schedulers
        get back what they show.
        """
        lay_out(brain.modules, self.gradient_orders or {})
        show_rates(brain.checkpointer, self._state.get("shown_rates", {}))
        counters = self._own("module_counters_of_ranks", self._state.get("module_counters", {}))
        restore_counters(brain.modules, counters)
        restore_training(brain, self._state.get("unsaved_training", {}))
        restore_progress(brain, self._state.get("unsaved_progress", {}))
        of_main = self._state.get("iterations", []) if get_rank() in (None, 0) else []
        let_them_go_on(self._own("iterations_of_ranks", of_main))
        gradients = self._state["gradients"]
        for name, parameter in brain.modules.named_parameters():
            if name in gradients:
                parameter.grad = shard_if_whole(gradients[name].to(parameter.device), parameter)

    def set_random_states(self) -> None:
        """Go on with the random numbers that were to come."""
        set_own_random_states(
            self._state["random_states"], self._state.get("random_states_of_ranks", [])
        )

    def batches_before_epoch(self, brain: BrainProtocol) -> int | None:
        """Return the training batches done in all epochs before this one, where they are known."""
        total = self._state.get("total_batches")
        if total is None:
            return None
        return int(total) if self._end_of_epoch else max(0, int(total) - brain.step)

    @property
    def gradient_orders(self) -> Orders | None:
        """In which order gradients came in the interrupted run, as far as it went backward."""
        orders: Orders | None = self._state.get("gradient_orders")
        return orders

    @property
    def loader(self) -> dict[str, Any] | None:
        """Where this process's training loader was, if it did not save that by itself."""
        # With the main process's random states another one would go on drawing the same.
        of_main = self._state.get("loader") if get_rank() in (None, 0) else None
        place: dict[str, Any] | None = self._own("loaders_of_ranks", of_main)
        return place

    def training_notes(self, of_main: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what the recipe noted on this process's Brain, else what on the main one's."""
        notes: Mapping[str, Any] = self._own("training_notes_of_ranks", of_main)
        return notes

    def _own(self, name: str, of_main: Any) -> Any:
        """Return this process's part of a list by rank, else the main process's."""
        of_ranks = self._state.get(name, ())
        rank = get_rank() or 0
        return of_ranks[rank] if rank < len(of_ranks) else of_main

    @property
    def validation_due(self) -> bool:
        """Whether the run was about to validate in the middle of an epoch."""
        return bool(self._state.get("validation_due")) and not self._end_of_epoch

    @property
    def was_fetched_ahead(self) -> bool:
        """Whether the next batch had been fetched when the checkpoint was saved."""
        return self._state.get("states_before_batch_ahead") is not None

    def before_first_batch(self, brain: BrainProtocol) -> None:
        """Go on, if the checkpoint was saved in the middle of an epoch."""
        if self._end_of_epoch:
            return
        brain.nonfinite_count = self._state["nonfinite_count"]
        self.restore_modules(brain)
        self.set_random_states()
        if self.was_fetched_ahead and get_rank() in (None, 0):
            set_random_states(self._state["states_before_batch_ahead"])
