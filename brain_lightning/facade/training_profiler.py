"""The torch profiler behind ``profile_training``."""

from __future__ import annotations

import os
from typing import Any

from torch import profiler

from brain_lightning.ground.errors import OptionError
from brain_lightning.ground.loggers import get_logger

logger = get_logger(__name__)


def make_profiler(warmup: int, active: int, hparams: Any) -> profiler.profile:
    """Make a profiler that records ``active`` batches after ``warmup``.

    Traces for TensorBoard go into ``profiler_logs`` in the recipe's ``output_folder``.

    Raises:
        OptionError: the recipe's hparams have no ``output_folder``.
    """
    folder = getattr(hparams, "output_folder", None)
    if folder is None:
        raise OptionError(
            "profile_training is on, but hparams has no output_folder to write the traces to. "
            "Add output_folder to the recipe's YAML file."
        )
    logger.info("The profiler records %d batches after %d, then training ends.", active, warmup)
    return profiler.profile(
        schedule=profiler.schedule(wait=0, warmup=warmup, active=active, repeat=1),
        on_trace_ready=profiler.tensorboard_trace_handler(os.path.join(folder, "profiler_logs")),
        record_shapes=True,
        with_stack=True,
    )
