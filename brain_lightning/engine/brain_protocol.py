"""What the engine needs from a Brain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch

from brain_lightning.ground.stage import Stage
from brain_lightning.parts.precision.autocast import TorchAutocast


class BrainProtocol(Protocol):
    """The part of a Brain that the engine reads, writes and calls.

    Attributes that only a recipe cares about are not listed.
    """

    modules: torch.nn.ModuleDict
    device: str
    device_type: str
    checkpointer: Any
    optimizers_dict: Any
    opt_class: Any
    scaler: torch.amp.GradScaler
    training_ctx: TorchAutocast
    evaluation_ctx: TorchAutocast
    train_sampler: Any
    step: int
    optimizer_step: int
    avg_train_loss: Any
    nonfinite_count: int
    max_grad_norm: float
    skip_nonfinite_grads: bool
    grad_accumulation_factor: int
    ckpt_interval_steps: int
    ckpt_interval_minutes: float
    debug: bool
    debug_batches: int
    debug_epochs: int
    noprogressbar: bool
    precision: str | None
    tqdm_barcolor: dict[str, str]
    profiler: Any
    tot_prof_steps: int
    distributed_launch: bool
    distributed_backend: str
    find_unused_parameters: bool

    def on_fit_start(self) -> None:
        """Compile, wrap, create optimizers, recover."""

    def on_evaluate_start(self, max_key: str | None = None, min_key: str | None = None) -> None:
        """Recover the checkpoint to evaluate."""

    def on_stage_start(self, stage: Stage, epoch: int | None = None) -> None:
        """Begin a stage."""

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        """End a stage."""

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Zero the gradients of the active optimizers."""

    def fit_batch(self, batch: Any) -> Any:
        """Train on one batch and return its detached loss."""

    def evaluate_batch(self, batch: Any, stage: Stage) -> Any:
        """Evaluate one batch and return its detached loss."""

    def update_average(self, loss: Any, avg_loss: Any) -> Any:
        """Return the running average with ``loss`` in it."""

    def compute_forward(self, batch: Any, stage: Stage) -> Any:
        """Predict."""

    def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
        """Compute the loss."""

    def check_loss_isfinite(self, loss: torch.Tensor) -> None:
        """Count a loss that is not finite; raise when patience is exhausted."""

    def check_gradients(self) -> None:
        """Drop gradients that are not finite."""

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        """Begin a training batch."""

    def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Any, should_step: bool) -> None:
        """End a training batch."""

    def _fit_valid(self, valid_set: Iterable[Any] | None, epoch: int | None, enable: bool) -> None:
        """Validate after an epoch."""

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time: float, steps_since_ckpt: int) -> bool:
        """Whether an interval checkpoint is due."""

    def _save_intra_epoch_ckpt(self) -> None:
        """Save the interval checkpoint."""

    @property
    def _optimizer_step_limit_exceeded(self) -> bool:
        """Whether training has made all its optimizer steps."""
