"""Evaluating on averaged weights that a checkpoint has beside those of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch

from brain_lightning.engine.checkpoints.lightning_checkpoint import current_keys
from brain_lightning.engine.trainer.trainer_callbacks import callbacks_of

# Since Lightning 2.5.6; before, nothing is an instance of it.
_WEIGHT_AVERAGING: Any = getattr(pl.callbacks, "WeightAveraging", ())


def load_average(
    module: pl.LightningModule, modules: torch.nn.ModuleDict, saved: Mapping[str, Any] | None
) -> None:
    """Load the average of a recovered checkpoint, as Lightning's own checkpoints have it.

    What recovers a checkpoint loads the weights to go on training with. The recipe has chosen the
    checkpoint by what validation measured on the average.

    Args:
        module: to be evaluated.
        modules: those of the Brain.
        saved: what callbacks wrote into the checkpoint, if there is one.
    """
    averages = any(isinstance(each, _WEIGHT_AVERAGING) for each in callbacks_of(module.trainer))
    if not averages or not saved or "averaging_state" not in saved:
        return
    if int(saved["averaging_state"].get("n_averaged", 0)) == 0:
        return
    module.load_state_dict(current_keys(saved["state_dict"], modules, module.state_dict()))
