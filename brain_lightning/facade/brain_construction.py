"""The stages in which a Brain is put together: launch, device, precision, modules, and so on.

Each function takes the Brain and sets the attributes that it names.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Module, ModuleDict

from brain_lightning.engine.checkpoints.sessions import count_checkpointer
from brain_lightning.facade.training_profiler import make_profiler
from brain_lightning.ground.errors import OptionError
from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.ranks import is_distributed_initialized
from brain_lightning.parts.checkpoints.hooks import register_with_loaded_speechbrain
from brain_lightning.parts.precision.autocast import TorchAutocast, dtype_of_precision

if TYPE_CHECKING:
    from brain_lightning.facade.brain import Brain

logger = get_logger(__name__)


def require_modules(modules: Any) -> None:
    """See that ``modules`` maps names to modules.

    Raises:
        TypeError: it does not.
    """
    if modules is None or isinstance(modules, ModuleDict):
        return
    if not isinstance(modules, Mapping):
        raise TypeError(
            f"modules must map names to torch modules, got {type(modules).__name__}. "
            "Pass a dictionary such as {'model': model}."
        )
    for name, module in modules.items():
        if not isinstance(name, str) or not isinstance(module, Module):
            raise TypeError(
                f"modules must map names to torch modules, but {name!r} is mapped to a "
                f"{type(module).__name__}. Leave out of modules what is no torch.nn.Module."
            )


def detect_launch(brain: Brain) -> None:
    """Set ``distributed_launch``: whether torchrun started this process."""
    brain.distributed_launch = "RANK" in os.environ and "LOCAL_RANK" in os.environ
    if brain.data_parallel_backend and brain.distributed_launch:
        raise OptionError(
            "data_parallel_backend is on, but this process was started by torchrun: either "
            "start the recipe with plain python, or leave out --data_parallel_backend."
        )


def choose_device(brain: Brain) -> None:
    """Set ``device_type``, and the current GPU."""
    brain.device_type = torch.device(brain.device).type
    if brain.device_type == "cuda":
        torch.cuda.set_device(torch.device(brain.device).index or 0)
    if brain.data_parallel_backend and torch.cuda.device_count() == 0:
        raise OptionError("data_parallel_backend is on, but this machine has no GPU.")


def choose_precision(brain: Brain) -> None:
    """Set ``scaler``, ``training_ctx`` and ``evaluation_ctx``."""
    if brain.device_type == "cpu" and "fp16" in (brain.precision, brain.eval_precision):
        raise OptionError(
            "precision or eval_precision is fp16, which is not possible on the CPU. "
            "Use bf16 there, or fp32."
        )
    scaled = brain.precision == "fp16" and brain.device_type == "cuda"
    if brain.skip_nonfinite_grads and scaled:
        logger.warning("skip_nonfinite_grads is ignored: with fp16 the gradient scaler skips them.")
    logger.info(
        "Precision: %s in training%s, %s in evaluation",
        brain.precision,
        " with gradient scaling" if scaled else "",
        brain.eval_precision,
    )
    brain.scaler = torch.amp.GradScaler(brain.device, enabled=scaled)
    brain.training_ctx = TorchAutocast(brain.device_type, dtype=dtype_of_precision(brain.precision))
    brain.evaluation_ctx = TorchAutocast(
        brain.device_type, dtype=dtype_of_precision(brain.eval_precision)
    )


def place_modules(brain: Brain, modules: Mapping[str, Module] | None) -> None:
    """Set ``modules``, on the device."""
    brain.modules = ModuleDict(modules).to(brain.device)
    # A module may override to(), which ModuleDict's does not call: to take along tensors that
    # are no buffers, as SpeechBrain's InputNormalization does.
    for name, module in brain.modules.items():
        if hasattr(module, "to"):
            brain.modules[name] = module.to(brain.device)


def prepare_profiler(brain: Brain) -> None:
    """Set ``profiler`` and, where there is one, ``tot_prof_steps``."""
    brain.profiler = None
    if brain.profile_training:
        brain.tot_prof_steps = brain.profile_steps + brain.profile_warmup - 1
        hparams = getattr(brain, "hparams", None)
        brain.profiler = make_profiler(brain.profile_warmup, brain.profile_steps, hparams)


def prepare_checkpointer(brain: Brain) -> None:
    """Add the Brain to its checkpointer, which in debug mode saves into a temporary folder."""
    checkpointer = brain.checkpointer
    if checkpointer is None:
        return
    register_with_loaded_speechbrain()
    count_checkpointer(checkpointer)
    if brain.debug and not brain.debug_persistently and hasattr(checkpointer, "checkpoints_dir"):
        folder = tempfile.TemporaryDirectory()
        logger.info("Debug mode: checkpoints are saved in %s and deleted with it.", folder.name)
        checkpointer.checkpoints_dir = Path(folder.name)
        checkpointer.tempdir = folder  # lives as long as the checkpointer
    if brain.scaler.is_enabled():
        checkpointer.add_recoverable("scaler", brain.scaler, optional_load=True)
    checkpointer.add_recoverable("brain", brain)


def check_process_group(brain: Brain) -> None:
    """Set ``rank`` where several processes were launched, and see that they are connected."""
    if not brain.distributed_launch:
        return
    brain.rank = int(os.environ["RANK"])
    if is_distributed_initialized():
        return
    if brain.rank > 0:
        raise OptionError(
            f"This is process {brain.rank} of several, but they are not connected. Call "
            "ddp_init_group(run_opts) in the recipe before the Brain is made."
        )
    logger.warning("Call ddp_init_group(run_opts) in the recipe to use several processes.")
