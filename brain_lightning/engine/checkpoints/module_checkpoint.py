"""What a BrainModule puts into Lightning's checkpoints and takes from them."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import lightning.pytorch as pl
import torch

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.fit_position import FitPosition
from brain_lightning.engine.checkpoints.lightning_checkpoint import (
    KEY,
    brain_state,
    current_keys,
    load_recoverables,
    unwrapped_keys,
    with_weights,
)
from brain_lightning.engine.checkpoints.resume import Resume
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.lightning_internals import StepCounter
from brain_lightning.engine.optimization.uncounted_steps import restore_uncounted_steps, steps_done
from brain_lightning.engine.processes.rank_states import rank_states_known, states_of_all_ranks
from brain_lightning.engine.stages.datamodule_run import load_state
from brain_lightning.engine.stages.fit_run import FitRun
from brain_lightning.engine.trainer.placement import runs_among_others
from brain_lightning.parts.checkpoints.archive_checksums import find_damaged_entry
from brain_lightning.parts.checkpoints.sharded_states import is_sharded

# The second is WeightAveraging's.
_WEIGHTS = ("state_dict", "current_model_state")


class ModuleCheckpoint:
    """The state of one run in a Lightning checkpoint.

    Lightning loads a checkpoint before the recipe is set up, and the recipe's optimizers exist only
    after ``on_fit_start``. So what was read waits here.

    Order of calls: ``read`` when Lightning loads a file; ``take`` when the recipe begins its set-up
    and, in a fit, ``keep_weights`` before it and ``go_on`` after it. ``write`` at each save.
    """

    def __init__(self, module: pl.LightningModule, brain: BrainProtocol) -> None:
        """Serve ``module``, which was generated from ``brain``."""
        self._module = module
        self._brain = brain
        self._waiting: dict[str, Any] | None = None
        self._weights: dict[str, Any] = {}

    def write(self, checkpoint: dict[str, Any], run: FitRun | None) -> None:
        """Add everything that the Brain's checkpointer would save."""
        for name in _WEIGHTS:
            if name in checkpoint:
                checkpoint[name] = unwrapped_keys(checkpoint[name], self._brain.modules)
        if "optimizer_states" not in checkpoint:  # save_weights_only
            return
        if run is not None and run.datamodule is not None:
            checkpoint[type(run.datamodule).__qualname__] = run.datamodule.state_dict()
        trainer = self._module.trainer
        position = None if run is None else run.position(trainer)
        # All processes are here, unless one alone saves because of an error.
        alone = run is None or run.step_in_progress or sys.exc_info()[1] is not None
        joint = is_sharded(self._brain.modules) or not alone
        joint = joint and runs_among_others(self._brain)
        with rank_states_known(self._brain, gradients=True) if joint else nullcontext():
            checkpoint[KEY] = brain_state(
                self._brain,
                trainer.optimizers,
                None if position is None else position.as_dict(),
                [] if run is None else run.unreliable_loaders,
            )
        if run is not None:
            checkpoint[KEY]["resume"]["iterations"] = run.iterations_to_go_on_with
        if run is not None and run.left is not None:
            checkpoint[KEY]["resume"] |= run.left.still_to_come
        if joint and position is not None and position.random_states is not None:
            states = states_of_all_ranks(position.random_states)
            checkpoint[KEY]["resume"]["random_states_of_ranks"] = states

    def read(self, checkpoint: dict[str, Any], run: FitRun | None, resumes: bool) -> None:
        """Bring names up to date and keep what is to be loaded once the recipe is set up.

        Args:
            checkpoint: what Lightning has read; it goes on with it.
            run: the fit, if there is one.
            resumes: whether ``Brain.fit()`` is to go on from it.

        Raises:
            ValueError: the checkpoint was not saved from a Brain, has its weights only, or is not
                what was saved.
        """
        _require_whole(self._module.trainer.ckpt_path)
        self.read_weights(checkpoint)
        self._waiting = checkpoint.get(KEY)
        if not resumes:
            return
        if self._waiting is None:
            raise ValueError(
                f"{self._module.trainer.ckpt_path} cannot be resumed from: it was not saved from a "
                "Brain, or with save_weights_only=True. Give fit() a checkpoint that "
                "ModelCheckpoint saved in full, or leave out ckpt_path."
            )
        checkpoint.pop("loops", None)  # the epoch counter of the recipe rules
        if run is not None and run.datamodule is not None and run.loads_datamodule:
            load_state(run.datamodule, checkpoint)

    def read_weights(self, checkpoint: dict[str, Any]) -> None:
        """Bring names up to date, and keep nothing."""
        present = self._module.state_dict()
        for name in _WEIGHTS:
            if name in checkpoint:
                checkpoint[name] = current_keys(checkpoint[name], self._brain.modules, present)
        if "state_dict" in checkpoint:  # DeepSpeed has files of its own for it, and has read them
            checkpoint["state_dict"] = with_weights(checkpoint, present)

    def take(self) -> dict[str, Any] | None:
        """Return what waits to be loaded, once."""
        waiting, self._waiting = self._waiting, None
        return waiting

    def keep_weights(self) -> None:
        """Remember the weights that Lightning loaded: the recipe's set-up may load others."""
        self._weights = {
            name: value.clone() if isinstance(value, torch.Tensor) else value
            for name, value in self._module.state_dict().items()
        }

    def go_on(self, saved: Mapping[str, Any], run: FitRun) -> None:
        """Load weights and recoverables, and have ``run`` begin where the checkpoint was saved."""
        weights, self._weights = self._weights, {}
        self._module.load_state_dict(
            current_keys(weights, self._brain.modules, self._module.state_dict())
        )
        position = _position_in(saved)
        connection = connection_of(self._brain)
        resumed = load_recoverables(saved, self._brain, position.end_of_epoch)
        if saved["resume"] is not None:  # as it is in one converted from SpeechBrain's
            state = position.resume_state(saved["resume"])
            connection.resume = Resume(state, end_of_epoch=position.end_of_epoch)
        restore_uncounted_steps(self._brain, saved["resume"])
        run.go_to(self._module.trainer, position, resumed)

    def take_back(self, saved: Mapping[str, Any], steps: StepCounter) -> None:
        """Load what a callback saved before it trained to try something out."""
        brain = self._brain
        position = _position_in(saved)
        connection = connection_of(brain)
        before = connection.resume
        load_recoverables(saved, brain, position.end_of_epoch)
        connection.resume = before
        brain.step = position.step
        brain.optimizer_step = position.optimizer_step
        brain.avg_train_loss = position.avg_train_loss
        restore_uncounted_steps(brain, saved["resume"])
        steps.restore(steps_done(brain))


def _require_whole(path: Any) -> None:
    """Refuse a file in which bits have changed since it was saved: Lightning loads them."""
    if path is None or not zipfile.is_zipfile(path):
        return
    try:
        damaged = find_damaged_entry(path)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged: {error}. Give another checkpoint.") from error
    if damaged is not None:
        raise ValueError(
            f"{path} is damaged: {damaged} in it is not what was saved. Give another checkpoint."
        )


def _position_in(saved: Mapping[str, Any]) -> FitPosition:
    if saved["run"] is None:
        raise ValueError("The checkpoint cannot be resumed from: it was saved outside of fit().")
    return FitPosition.from_dict(saved["run"])
