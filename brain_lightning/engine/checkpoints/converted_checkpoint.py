"""What one of Lightning's ``.ckpt`` files has to have to go on from a checkpoint folder, and back.

Nothing is known of the recipe here: not which recoverable is a module, nor which epoch counter
there is. So all files of a folder go into the ``.ckpt`` as they are, to be loaded by the same hooks
as from the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from lightning import __version__ as lightning_version

from brain_lightning.engine import lightning_internals as internals
from brain_lightning.engine.checkpoints.fit_position import (
    DONE,
    START,
    TRAINING,
    VALIDATION,
    FitPosition,
)
from brain_lightning.engine.checkpoints.interval_checkpoint import INTRA_EPOCH_CKPT_FLAG
from brain_lightning.engine.checkpoints.lightning_checkpoint import (
    FILES,
    KEY,
    OPTIMIZER_STATES,
    STATE_DICT,
)
from brain_lightning.engine.logs.published_metrics import named_loss
from brain_lightning.engine.trainer.quiet import quiet_lightning
from brain_lightning.parts.checkpoints.meta_file import meta_text

META = "meta"
_WHEN = frozenset({"unixtime", "end-of-epoch", INTRA_EPOCH_CKPT_FLAG})
_REQUIRED = frozenset({"files", "names", "places", "left_out", "run", "resume"})


@dataclass
class Contents:
    """What a checkpoint has, wherever it is."""

    meta: dict[str, Any]
    """Of the checkpoint folder."""

    step: int
    """Batches done in the epoch."""

    avg_train_loss: Any
    """The running average of the epoch."""

    optimizer_step: int
    """Optimizer steps done."""

    resume: dict[str, Any] | None
    """What an exact resume needs besides; SpeechBrain's checkpoints have none."""

    files: dict[str, torch.Tensor]
    """File name -> its bytes, for what was saved as files."""

    states: dict[str, Any]
    """Recoverable -> its state dict, for what Lightning saved."""


def to_lightning(contents: Contents, names: list[str], epochs_done: int) -> dict[str, Any]:
    """Return what is to be saved as a ``.ckpt`` file.

    Args:
        contents: of a folder, all of it in ``files``.
        names: those of its recoverables.
        epochs_done: ``trainer.current_epoch`` there, for a Trainer that counts itself.
    """
    meta = contents.meta
    position = FitPosition(
        phase=DONE if meta["end-of-epoch"] else TRAINING,
        epoch=None,  # the recipe's counter is among the files
        first_number=1,
        step=contents.step,
        optimizer_step=contents.optimizer_step,
        avg_train_loss=contents.avg_train_loss,
        total_batches=0,
        callback_metrics=_metrics(meta),
    )
    resume = contents.resume
    return {
        "epoch": epochs_done,
        "global_step": contents.optimizer_step,
        "pytorch-lightning_version": lightning_version,
        "state_dict": {},
        "loops": _loops(epochs_done, contents.optimizer_step),
        "callbacks": {} if resume is None else dict(resume["callbacks"]),
        "optimizer_states": [],
        "lr_schedulers": [],
        KEY: {
            "files": contents.files,
            "names": dict.fromkeys(names, FILES),
            "places": {},
            "left_out": [],
            "run": position.as_dict(),
            "resume": resume,
            "is_converted": True,
            META: meta_text(meta),  # text, as it may have dates
        },
    }


def _metrics(meta: Mapping[str, Any]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, value in meta.items():
        if name not in _WHEN and not isinstance(value, Mapping):
            metrics |= named_loss(name, value)
    return metrics


def _loops(epochs_done: int, optimizer_step: int) -> dict[str, Any]:
    """Return Lightning's counters, for a Trainer that counts the epochs itself."""
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, max_epochs=-1
        )
    internals.set_current_epoch(trainer, epochs_done)
    for automatic in (False, True):
        internals.StepCounter(trainer, automatic).restore(optimizer_step)
    loops = ("fit_loop", "validate_loop", "test_loop", "predict_loop")
    return {name: getattr(trainer, name).state_dict() for name in loops}


def from_lightning(checkpoint: Mapping[str, Any], unixtime: float) -> Contents:
    """Return what a checkpoint folder is to have.

    Args:
        checkpoint: what a ``.ckpt`` file holds.
        unixtime: when it was saved.

    Raises:
        ValueError: it is not from a Brain, or from a moment that no folder can stand for.
    """
    saved = saved_from_brain(checkpoint)
    run = FitPosition.from_dict(saved["run"])
    _require_moment_of_a_folder(saved, run)
    return Contents(
        meta=_meta(run, unixtime) if META not in saved else yaml.safe_load(saved[META]),
        step=run.step,
        avg_train_loss=run.avg_train_loss,
        optimizer_step=run.optimizer_step,
        resume=None if saved["resume"] is None else run.resume_state(saved["resume"]),
        files=dict(saved["files"]),
        states=_states(checkpoint, saved),
    )


def saved_from_brain(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the Brain has put into a ``.ckpt`` file.

    Raises:
        ValueError: no Brain has, or none of this version.
    """
    saved = checkpoint.get(KEY)
    if saved is None:
        raise ValueError(
            "it was not saved from a Brain, or with save_weights_only=True, so nothing in it says "
            "what the recoverables are."
        )
    missing = sorted(_REQUIRED - saved.keys())
    if missing:
        raise ValueError(f"it was saved by another version of brain_lightning: no {missing}.")
    if saved["run"] is None:
        raise ValueError("it was saved outside of fit().")
    return dict(saved)


def where(run: Mapping[str, Any]) -> str:
    """Say at which moment of its fit a ``.ckpt`` file was saved."""
    position = FitPosition.from_dict(run)
    epoch = "an epoch" if position.epoch is None else f"epoch {position.epoch}"
    return {
        START: "before the first epoch",
        TRAINING: f"in {epoch}, after {position.step} batches",
        VALIDATION: f"between the training and the end of the validation of {epoch}",
        DONE: f"at the end of {epoch}",
    }[position.phase]


def _require_moment_of_a_folder(saved: Mapping[str, Any], run: FitPosition) -> None:
    if run.phase == VALIDATION:
        raise ValueError(
            f"it was saved {where(run.as_dict())}, and a checkpoint folder cannot stand for that "
            "moment. Resume from it with fit(ckpt_path=...), or convert another one."
        )
    if run.phase == TRAINING and saved["left_out"]:
        raise ValueError(
            f"it was saved in the middle of a step, where {', '.join(saved['left_out'])} had no "
            "position that could be saved. Resume from it with fit(ckpt_path=...), or convert "
            "another one."
        )


def _meta(run: FitPosition, unixtime: float) -> dict[str, Any]:
    if run.phase == TRAINING:
        return {"unixtime": unixtime, "end-of-epoch": False, INTRA_EPOCH_CKPT_FLAG: True}
    return {**run.callback_metrics, "unixtime": unixtime, "end-of-epoch": True}


def _states(checkpoint: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    states: dict[str, Any] = {}
    for name, kind in saved["names"].items():
        place = saved["places"].get(name)
        if kind == STATE_DICT:
            states[name] = {
                key.removeprefix(place): value
                for key, value in checkpoint["state_dict"].items()
                if key.startswith(place)
            }
        elif kind == OPTIMIZER_STATES:
            states[name] = checkpoint["optimizer_states"][place]
    return states
