"""What an exact resume needs and SpeechBrain's checkpoint format has no place for.

Random states, the number of non-finite losses in this epoch, gradients that have accumulated, and
the states of callbacks. SpeechBrain's resume does without, so dropout draws other numbers behind
it; ours continues as if the run had never been interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.connection import connection_of
from brain_lightning.ground.loggers import get_logger
from brain_lightning.parts.checkpoints.random_states import random_states, set_random_states

logger = get_logger(__name__)


def capture_resume_state(brain: BrainProtocol) -> dict[str, Any]:
    """Return tensors and plain values that :class:`Resume` continues from."""
    module = connection_of(brain).module
    fitting = module is not None and module.trainer.state.fn == "fit"
    state: dict[str, Any] = {
        "random_states": random_states(),
        "nonfinite_count": getattr(brain, "nonfinite_count", 0),
        "gradients": _accumulated_gradients(brain),
        "callbacks": {},
    }
    if fitting and module is not None:
        state["callbacks"] = _callback_states(module.trainer)
    return state


def _accumulated_gradients(brain: BrainProtocol) -> dict[str, torch.Tensor]:
    if brain.step % brain.grad_accumulation_factor == 0:
        return {}
    return {
        name: parameter.grad.detach().cpu()
        for name, parameter in brain.modules.named_parameters()
        if parameter.grad is not None
    }


def _callback_states(trainer: Any) -> dict[str, Any]:
    states = {callback.state_key: callback.state_dict() for callback in trainer.callbacks}
    return {key: state for key, state in states.items() if state}


class Resume:
    """A state that was recovered at the start of a fit, and waits for the moment to go on from.

    Behind an end-of-epoch checkpoint that is before the next epoch is opened; behind one from the
    middle of an epoch it is when the loader is about to give the first batch.
    """

    def __init__(self, state: Mapping[str, Any], end_of_epoch: bool) -> None:
        """Wait with ``state``, from :func:`capture_resume_state`."""
        self._state = state
        self._end_of_epoch = end_of_epoch

    def restore_callbacks(self, trainer: Any) -> None:
        """Give the callbacks their states back, as Lightning does from a checkpoint of its own."""
        states = dict(self._state["callbacks"])
        for callback in trainer.callbacks:
            state = states.pop(callback.state_key, None)
            if state:
                callback.load_state_dict(state)
        for key in states:
            logger.warning(
                "The checkpoint has the state of a callback that this run does not have: %s", key
            )

    def before_epoch(self) -> None:
        """Go on, if the checkpoint was saved at the end of an epoch."""
        if self._end_of_epoch:
            set_random_states(self._state["random_states"])

    def before_first_batch(self, brain: BrainProtocol) -> None:
        """Go on, if the checkpoint was saved in the middle of an epoch."""
        if self._end_of_epoch:
            return
        brain.nonfinite_count = self._state["nonfinite_count"]
        gradients = self._state["gradients"]
        for name, parameter in brain.modules.named_parameters():
            if name in gradients:
                parameter.grad = gradients[name].to(parameter.device)
        set_random_states(self._state["random_states"])
