"""The names of Brain's interface, so that reading a recipe imports neither torch nor Lightning.

A test compares them with the class.
"""

from __future__ import annotations

BRAIN_NAMES = frozenset(
    {
        "speechbrain.Brain",
        "speechbrain.core.Brain",
        "brain_lightning.Brain",
        "brain_lightning.core.Brain",
        "brain_lightning.facade.brain.Brain",
    }
)
"""The dotted names that Brain goes by."""

LOOP = "_fit_train"
"""SpeechBrain's training loop, which is none here."""

METHODS = frozenset(
    {
        "_compile",
        "_fit_valid",
        "_recover",
        "_save",
        "_save_intra_epoch_ckpt",
        "_should_save_intra_epoch_ckpt",
        "_train_loader_specifics",
        "_wrap_distributed",
        "check_gradients",
        "check_loss_isfinite",
        "compute_forward",
        "compute_objectives",
        "evaluate",
        "evaluate_batch",
        "fit",
        "fit_batch",
        "freeze_optimizers",
        "init_optimizers",
        "log",
        "make_dataloader",
        "no_sync",
        "on_evaluate_start",
        "on_fit_batch_end",
        "on_fit_batch_start",
        "on_fit_start",
        "on_stage_end",
        "on_stage_start",
        "optimizers_step",
        "print_trainable_parameters",
        "update_average",
        "zero_grad",
    }
)
"""The methods that a recipe may override or call."""

ATTRIBUTES = frozenset(
    {
        "avg_train_loss",
        "checkpointer",
        "device_type",
        "evaluation_ctx",
        "hparams",
        "modules",
        "nonfinite_count",
        "opt_class",
        "optimizer",
        "optimizer_step",
        "optimizers_dict",
        "profiler",
        "rank",
        "raw_modules",
        "scaler",
        "step",
        "tot_prof_steps",
        "train_sampler",
        "trainer",
        "training_ctx",
    }
)
"""The attributes beside the run options, each of which is one too."""
