"""Precision plugins: they name the precision and leave the work to Brain."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning.pytorch.plugins import MixedPrecision, Precision
from typing_extensions import override

LIGHTNING_NAMES = {None: "32-true", "fp32": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}
"""SpeechBrain's names of a precision -> Lightning's."""


class BrainPrecision(Precision):
    """Tells Lightning the precision; autocast and loss scaling are Brain's own.

    ``training_ctx`` covers forward and objectives only, ``on_fit_batch_start`` and ``_end`` run
    outside of it, and evaluation has a context of its own: Lightning's plugins, which wrap the
    whole step, cannot express that.
    """

    def __init__(self, precision: str | None) -> None:
        """Take SpeechBrain's name of the precision."""
        self.precision = LIGHTNING_NAMES[precision]  # type: ignore[assignment]


class ScaledPrecision(MixedPrecision):
    """fp16 in automatic optimization: Lightning scales and steps with Brain's scaler."""

    def __init__(self, device: str, scaler: torch.amp.GradScaler) -> None:
        """Use ``scaler``, which the checkpointer saves as ``scaler``."""
        super().__init__("16-mixed", device, scaler)

    @override
    def forward_context(self) -> AbstractContextManager[Any]:  # type: ignore[override]
        """``training_ctx`` and ``evaluation_ctx`` are entered by Brain, where they belong."""
        return nullcontext()
