"""What becomes of each run option: the table behind the Trainer configuration."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainerArgument:
    """The option sets arguments of ``lightning.Trainer``, which the user then must not set."""

    names: tuple[str, ...]
    only_if_given: bool = False
    """Whether the arguments are the user's as long as the option has its default."""


@dataclass(frozen=True)
class CallbackOption:
    """The option is the work of a callback that the engine adds."""

    callback: str


@dataclass(frozen=True)
class BrainAttribute:
    """The option is read from the Brain while it runs; ``by`` says where."""

    by: str


@dataclass(frozen=True)
class Refused:
    """The option cannot be had, and why."""

    reason: str


Translation = TrainerArgument | CallbackOption | BrainAttribute | Refused

_LAUNCH = "read before a Brain exists"

OPTION_TRANSLATION: dict[str, Translation] = {
    "test_only": BrainAttribute("fit(), which then returns at once"),
    "debug": BrainAttribute("TrainingStage and EvaluationPass"),
    "debug_batches": BrainAttribute("TrainingStage and EvaluationPass"),
    "debug_epochs": BrainAttribute("FitRun.end_epoch"),
    "debug_persistently": BrainAttribute("the constructor, for the checkpointer's folder"),
    "device": TrainerArgument(("accelerator", "devices", "strategy")),
    "data_parallel_backend": BrainAttribute("_wrap_distributed"),
    "data_parallel_count": BrainAttribute("_wrap_distributed"),
    "distributed_backend": BrainAttribute("ddp_init_group and _wrap_distributed"),
    "distributed_launch": BrainAttribute("the constructor, from the environment"),
    "find_unused_parameters": BrainAttribute("_wrap_distributed"),
    "jit": BrainAttribute("_compile"),
    "jit_module_keys": BrainAttribute("_compile"),
    "compile": BrainAttribute("_compile"),
    "compile_module_keys": BrainAttribute("_compile"),
    "compile_mode": BrainAttribute("_compile"),
    "compile_using_fullgraph": BrainAttribute("_compile"),
    "compile_using_dynamic_shape_tracing": BrainAttribute("_compile"),
    "precision": TrainerArgument(("precision",)),
    "eval_precision": BrainAttribute("evaluation_ctx"),
    "auto_mix_prec": BrainAttribute("the constructor, as precision=fp16"),
    "bfloat16_mix_prec": BrainAttribute("the constructor, as precision=bf16"),
    "max_grad_norm": TrainerArgument(("gradient_clip_val", "gradient_clip_algorithm")),
    "skip_nonfinite_grads": BrainAttribute("optimizers_step"),
    "nonfinite_patience": BrainAttribute("check_loss_isfinite"),
    "noprogressbar": TrainerArgument(("enable_progress_bar",)),
    "ckpt_interval_minutes": BrainAttribute("TrainingStage.save_if_due"),
    "ckpt_interval_steps": BrainAttribute("TrainingStage.save_if_due"),
    "grad_accumulation_factor": TrainerArgument(("accumulate_grad_batches",)),
    "optimizer_step_limit": BrainAttribute("TrainingStage and FitRun"),
    "tqdm_colored_bar": CallbackOption("BrainProgressBar"),
    "tqdm_barcolor": CallbackOption("BrainProgressBar"),
    "remove_vector_weight_decay": BrainAttribute("init_optimizers"),
    "profile_training": BrainAttribute("TrainingStage.count"),
    "profile_warmup": BrainAttribute("the constructor, for the profiler's schedule"),
    "profile_steps": BrainAttribute("the constructor, for the profiler's schedule"),
    "log_config": BrainAttribute("create_experiment_directory, where the recipe passes it on"),
    "param_file": BrainAttribute(_LAUNCH),
    "overridden_args": BrainAttribute("the constructor, for precedence"),
    "trainer": TrainerArgument(()),
    "optimization": BrainAttribute("BrainModule"),
    "move_batch": BrainAttribute("BrainModule.transfer_batch_to_device"),
    "shard_evaluation": BrainAttribute("EvaluationPass"),
    "async_checkpoint": BrainAttribute("TrainingStage.save_if_due"),
    "val_interval_steps": TrainerArgument(
        ("val_check_interval", "check_val_every_n_epoch"), only_if_given=True
    ),
    "no_slurm_detection": BrainAttribute(_LAUNCH),
}
"""Option -> translation, complete for every field of RunOptions."""


def owner_of(argument: str, given: Container[str] = ()) -> str | None:
    """The run option that sets this Trainer argument, or None.

    Args:
        argument: of ``lightning.Trainer``.
        given: the options that have another value than their default.
    """
    for option, translation in OPTION_TRANSLATION.items():
        if isinstance(translation, TrainerArgument) and argument in translation.names:
            return option if option in given or not translation.only_if_given else None
    return None
