"""SpeechBrain recipes on Lightning.

The names below are SpeechBrain's, at the top level wherever SpeechBrain keeps them. Each is
imported when it is first used, so that ``import brain_lightning`` costs nothing. Any other
attribute is that of an installed SpeechBrain: ``import brain_lightning as sb`` ports a recipe.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from brain_lightning.version import __version__

if TYPE_CHECKING:
    from brain_lightning.engine.brain_module import BrainModule
    from brain_lightning.engine.sharded_modules.fsdp2 import FSDP2
    from brain_lightning.facade.brain import Brain
    from brain_lightning.facade.command_line import parse_arguments
    from brain_lightning.facade.experiment import create_experiment_directory
    from brain_lightning.ground.process_group import ddp_init_group
    from brain_lightning.ground.ranks import if_main_process, run_on_main
    from brain_lightning.ground.stage import Stage
    from brain_lightning.parts.checkpoints.averaging import average_checkpoints
    from brain_lightning.parts.checkpoints.checkpoint import Checkpoint
    from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
    from brain_lightning.parts.checkpoints.hooks import (
        mark_as_loader,
        mark_as_saver,
        mark_as_transfer,
        register_checkpoint_hooks,
    )
    from brain_lightning.parts.data.looped_loader import LoopedLoader
    from brain_lightning.parts.data.make_dataloader import make_dataloader
    from brain_lightning.parts.data.padded_batch import PaddedBatch
    from brain_lightning.parts.data.saveable_loader import SaveableDataLoader
    from brain_lightning.parts.epochs.epoch_counter import EpochCounter, EpochCounterWithStopper
    from brain_lightning.parts.metrics.gatherable import register_gatherable
    from brain_lightning.parts.options.run_options import RunOptions
    from brain_lightning.parts.train_log.file_train_logger import FileTrainLogger

_HOMES = {
    "Brain": "facade.brain",
    "BrainModule": "engine.brain_module",
    "Checkpoint": "parts.checkpoints.checkpoint",
    "Checkpointer": "parts.checkpoints.checkpointer",
    "EpochCounter": "parts.epochs.epoch_counter",
    "EpochCounterWithStopper": "parts.epochs.epoch_counter",
    "FSDP2": "engine.sharded_modules.fsdp2",
    "FileTrainLogger": "parts.train_log.file_train_logger",
    "LoopedLoader": "parts.data.looped_loader",
    "PaddedBatch": "parts.data.padded_batch",
    "RunOptions": "parts.options.run_options",
    "SaveableDataLoader": "parts.data.saveable_loader",
    "Stage": "ground.stage",
    "average_checkpoints": "parts.checkpoints.averaging",
    "create_experiment_directory": "facade.experiment",
    "ddp_init_group": "ground.process_group",
    "if_main_process": "ground.ranks",
    "make_dataloader": "parts.data.make_dataloader",
    "mark_as_loader": "parts.checkpoints.hooks",
    "mark_as_saver": "parts.checkpoints.hooks",
    "mark_as_transfer": "parts.checkpoints.hooks",
    "parse_arguments": "facade.command_line",
    "register_checkpoint_hooks": "parts.checkpoints.hooks",
    "register_gatherable": "parts.metrics.gatherable",
    "run_on_main": "ground.ranks",
}
"""Public name -> the module that defines it."""

__all__ = [
    "FSDP2",
    "Brain",
    "BrainModule",
    "Checkpoint",
    "Checkpointer",
    "EpochCounter",
    "EpochCounterWithStopper",
    "FileTrainLogger",
    "LoopedLoader",
    "PaddedBatch",
    "RunOptions",
    "SaveableDataLoader",
    "Stage",
    "__version__",
    "average_checkpoints",
    "create_experiment_directory",
    "ddp_init_group",
    "if_main_process",
    "make_dataloader",
    "mark_as_loader",
    "mark_as_saver",
    "mark_as_transfer",
    "parse_arguments",
    "register_checkpoint_hooks",
    "register_gatherable",
    "run_on_main",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used; SpeechBrain's where it is not ours."""
    home = _HOMES.get(name)
    if home is None:
        return _attribute_of_speechbrain(name)
    value = getattr(importlib.import_module(f"brain_lightning.{home}"), name)
    globals()[name] = value
    return value


def _attribute_of_speechbrain(name: str) -> Any:
    # Python and its tools ask any module for such names, and are not to wake SpeechBrain.
    if name.startswith("_"):
        raise AttributeError(f"module 'brain_lightning' has no attribute {name!r}")
    from brain_lightning.entry.interop.ported_modules import speechbrain_attribute

    return speechbrain_attribute(name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
