"""Every run option, declared once: name, type, default, choices and help.

The dataclass, the parser, ``--help``, the checks and the documentation table are made from the
fields of ``Declarations``; the first 39 are SpeechBrain's, in its order.
"""

# ruff: noqa: RUF009 -- the functions called for defaults return dataclass fields, nothing shared

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

PRECISIONS = ("fp32", "fp16", "bf16")
BACKENDS = ("nccl", "gloo", "mpi")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
OPTIMIZATIONS = ("manual", "automatic")

Profile: TypeAlias = Literal["brain_lightning", "speechbrain"]

_METADATA_KEY = "option"
_SAME = object()


@dataclass(frozen=True)
class Option:
    """What the dataclass field of an option says beside its name, type and default.

    Args:
        help: one sentence for the user.
        choices: the values that are possible; None when any of the type is. A value of None is
            possible where it is the default or where the option is a precision.
        refused_when_parsed: whether the parser refuses other values already. SpeechBrain's does for
            precisions only.
        on_command_line: whether the option can be given on the command line.
        speechbrain: whether it is an option of SpeechBrain's.
        speechbrain_default: SpeechBrain 1.1's default where ours is another one.
    """

    help: str
    choices: tuple[str, ...] | None = None
    refused_when_parsed: bool = False
    on_command_line: bool = True
    speechbrain: bool = True
    speechbrain_default: Any = _SAME


def _option(default: Any, help: str, **rest: Any) -> Any:
    """Return the dataclass field of an option; a dict, list or set is copied for each instance."""
    metadata = {_METADATA_KEY: Option(help, **rest)}
    if isinstance(default, dict | list | set):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _own(default: Any, help: str, **rest: Any) -> Any:
    """Return the field of an option that SpeechBrain does not have."""
    return _option(default, help, speechbrain=False, **rest)


@dataclass(frozen=True)
class Declarations:
    """The table of run options."""

    test_only: bool = _option(False, "Skip training: evaluate a model that is trained already.")
    debug: bool = _option(False, "Run a few batches of a few epochs, to see that the code runs.")
    debug_batches: int = _option(2, "How many batches of each epoch to run in debug mode.")
    debug_epochs: int = _option(2, "How many epochs to run in debug mode; all if not positive.")
    debug_persistently: bool = _option(
        False, "Keep what debug mode saves in its usual place, not in a temporary folder."
    )
    device: str | None = _option(
        None, "Where to run, such as cpu or cuda:0; if not given, a GPU when there is one."
    )
    data_parallel_backend: bool = _option(
        False, "Spread each batch over the GPUs of this process (torch DataParallel)."
    )
    data_parallel_count: int = _option(
        -1, "How many GPUs DataParallel uses; all if negative.", on_command_line=False
    )
    distributed_backend: str = _option(
        "nccl", "How processes talk to each other: nccl on GPUs, gloo on CPUs.", choices=BACKENDS
    )
    distributed_launch: bool = _option(
        False,
        "Whether a launcher started this process; Brain finds out by itself.",
        on_command_line=False,
    )
    find_unused_parameters: bool = _option(
        False, "Let DDP look for parameters that took no part in a batch's loss."
    )
    jit: bool = _option(
        False, "Compile all modules with TorchScript; jit_module_keys names some of them."
    )
    jit_module_keys: list[str] | None = _option(
        None, "Which entries of modules to compile with TorchScript."
    )
    compile: bool = _option(
        False, "Compile all modules with torch.compile; compile_module_keys names some of them."
    )
    compile_module_keys: list[str] | None = _option(
        None, "Which entries of modules to compile with torch.compile, rather than TorchScript."
    )
    compile_mode: str = _option(
        "reduce-overhead",
        "The mode of torch.compile.",
        choices=COMPILE_MODES,
        speechbrain_default="default",
    )
    compile_using_fullgraph: bool = _option(
        False, "Refuse to compile a module that cannot become one single graph."
    )
    compile_using_dynamic_shape_tracing: bool = _option(
        False, "Compile for shapes that change from batch to batch."
    )
    precision: str | None = _option(
        "fp32",
        "Floating-point precision of training.",
        choices=PRECISIONS,
        refused_when_parsed=True,
    )
    eval_precision: str | None = _option(
        "fp32",
        "Floating-point precision of validation and test.",
        choices=PRECISIONS,
        refused_when_parsed=True,
    )
    auto_mix_prec: bool = _option(False, "Deprecated: write --precision=fp16.")
    bfloat16_mix_prec: bool = _option(False, "Deprecated: write --precision=bf16.")
    max_grad_norm: float = _option(
        5.0, "Clip the norm of the gradients to this; do not clip if not positive."
    )
    skip_nonfinite_grads: bool = _option(
        False, "Leave out a step for which a gradient is infinite or not a number."
    )
    nonfinite_patience: int = _option(
        3, "How many batches of an epoch may have a loss that is not finite."
    )
    noprogressbar: bool = _option(False, "Show no progress bars.")
    ckpt_interval_minutes: float = _option(
        15.0,
        "Minutes between checkpoints inside an epoch; none by time if not positive.",
        speechbrain_default=0,
    )
    ckpt_interval_steps: int = _option(
        0,
        "Batches between checkpoints inside an epoch; none by count if not positive. Given "
        "alone, it turns ckpt_interval_minutes off.",
    )
    grad_accumulation_factor: int = _option(
        1, "How many batches to accumulate gradients over before the optimizer steps."
    )
    optimizer_step_limit: int | None = _option(
        None, "Stop after this many optimizer steps; if not given, all epochs are run."
    )
    tqdm_colored_bar: bool = _option(False, "Color the progress bars by stage.")
    tqdm_barcolor: dict[str, str] = _option(
        {"train": "GREEN", "valid": "MAGENTA", "test": "CYAN"},
        "The color of each stage's progress bar.",
        on_command_line=False,
    )
    remove_vector_weight_decay: bool = _option(
        False, "Apply no weight decay to vectors, such as biases and norms."
    )
    profile_training: bool = _option(False, "Profile training, and write traces for TensorBoard.")
    profile_warmup: int = _option(5, "How many batches the profiler lets pass before it records.")
    profile_steps: int = _option(5, "How many batches the profiler records.")
    log_config: str | None = _option(None, "A YAML file with the configuration of logging.")
    param_file: str = _option(
        "", "The YAML file of hyperparameters, in HyperPyYAML.", on_command_line=False
    )
    overridden_args: set[str] = _option(
        set(), "The names of the options that were given explicitly.", on_command_line=False
    )

    trainer: dict[str, Any] = _own(
        {}, "Arguments of lightning.Trainer: --trainer.KEY VALUE for each, VALUE being YAML."
    )
    optimization: str | None = _own(
        None,
        "Who steps the optimizer: Brain (manual) or Lightning (automatic); if not given, Brain "
        "unless something asked for needs Lightning to.",
        choices=OPTIMIZATIONS,
        refused_when_parsed=True,
    )
    move_batch: bool = _own(False, "Move each batch to the device before Brain gets it.")
    shard_evaluation: bool = _own(
        False, "Split validation and test over the processes, rather than run all on each."
    )
    async_checkpoint: bool = _own(
        True, "Write checkpoints inside an epoch in the background, while training goes on."
    )
    val_interval_steps: int = _own(
        0, "Batches between validations inside an epoch; none inside an epoch if not positive."
    )
    no_slurm_detection: bool = _own(False, "Do not take the ranks of processes from SLURM.")


@functools.cache
def option_fields() -> Mapping[str, dataclasses.Field[Any]]:
    """Return the dataclass field of every option, by name, SpeechBrain's first."""
    return MappingProxyType({field.name: field for field in dataclasses.fields(Declarations)})


def option_of(field: dataclasses.Field[Any]) -> Option:
    """Return what a field says beside its name, type and default."""
    declared = field.metadata[_METADATA_KEY]
    assert isinstance(declared, Option)
    return declared


def is_speechbrain_option(name: str) -> bool:
    """Tell whether an option of that name is one of SpeechBrain's."""
    return option_of(option_fields()[name]).speechbrain


def default_of(field: dataclasses.Field[Any], profile: Profile = "brain_lightning") -> Any:
    """Return the default of one option, a new object where it is a container."""
    other = option_of(field).speechbrain_default
    if profile == "speechbrain" and other is not _SAME:
        return other
    if field.default is not dataclasses.MISSING:
        return field.default
    assert field.default_factory is not dataclasses.MISSING
    return field.default_factory()


def default_values(profile: Profile = "brain_lightning") -> Mapping[str, Any]:
    """Return the default of every option.

    Args:
        profile: ``"speechbrain"`` for SpeechBrain 1.1's own defaults where they differ from ours.
    """
    if profile not in ("brain_lightning", "speechbrain"):
        raise ValueError(
            f"There are no defaults called {profile!r}; there are 'brain_lightning' and "
            "'speechbrain'."
        )
    return {name: default_of(field, profile) for name, field in option_fields().items()}
