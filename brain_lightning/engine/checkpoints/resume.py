"""Going on from what :mod:`resume_state` captured, each part of it at its moment."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.module_counters import restore_counters
from brain_lightning.engine.checkpoints.resume_state import checkpoint_writers
from brain_lightning.engine.checkpoints.sessions import fits_begun, session_of
from brain_lightning.engine.checkpoints.shown_rates import show_rates
from brain_lightning.engine.checkpoints.unsaved_progress import restore_progress
from brain_lightning.engine.checkpoints.unsaved_training import restore_training
from brain_lightning.engine.logs.train_log_repeats import RepeatedLines
from brain_lightning.engine.processes.gradient_order import Orders, lay_out
from brain_lightning.engine.processes.rank_states import set_own_random_states
from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.ranks import get_rank
from brain_lightning.parts.checkpoints.random_states import set_random_states
from brain_lightning.parts.checkpoints.sharded_states import shard_if_whole
from brain_lightning.parts.data.iterations_in_use import let_them_go_on

logger = get_logger(__name__)


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
            for callback in checkpoint_writers(trainer):
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
