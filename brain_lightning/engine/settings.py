"""The options that are ours and not SpeechBrain's, as the engine uses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class EngineSettings:
    """How a Brain is run on Lightning.

    They are kept apart from the Brain's attributes, where a recipe may have others of these names.
    """

    trainer: Mapping[str, Any] = field(default_factory=dict)
    """Arguments for ``lightning.Trainer``, merged from hparams, constructor and command line."""

    optimization: str | None = None
    """"manual", "automatic", or None to decide by what was asked for."""

    move_batch: bool = False
    """Move each batch to the device before ``fit_batch`` and ``evaluate_batch``."""

    shard_evaluation: bool = False
    """Split validation and test sets over the processes."""

    async_checkpoint: bool = True
    """Write interval checkpoints beside training."""

    val_interval_steps: int = 0
    """Validate every so many training batches; 0 means after each epoch."""

    shows_no_bars: bool = False
    """``noprogressbar`` was given as a run option, so on the command line."""
