"""What works of Lightning with a Brain, and how: the data behind the tables in docs/lightning.md.

The contract tests check that the tables are complete and have a test for every entry.
"""

# ruff: noqa: E501 -- rows of tables

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One row of a table."""

    status: str
    """"works", "automatic" (works with automatic optimization, chosen by itself), "own Trainer"
    (works in a Trainer of the user's), "handed on" (to Lightning, without a contract test),
    "not tested" or "refused"."""

    note: str = ""


WORKS = Entry("works")

CALLBACKS: dict[str, Entry] = {
    "BackboneFinetuning": Entry(
        "works",
        "the entry `backbone` of `modules`; frozen parameters are left out of the optimizer until "
        "they are unfrozen",
    ),
    "BaseFinetuning": Entry("works", "entries of `modules` are attributes: `pl_module.encoder`"),
    "BasePredictionWriter": Entry("own Trainer", "`predict_batch(batch)` of the Brain predicts"),
    "BatchSizeFinder": Entry(
        "works",
        "in `fit()`, before the loaders are made: `train_set` must be a data set and "
        "`train_loader_kwargs` have `batch_size`, or the `datamodule` have it; everything tried out is put back",
    ),
    "Callback": Entry(
        "works",
        "all hooks in Lightning's order, around a recipe's own backward and step as well",
    ),
    "Checkpoint": Entry("works", "`trainer.save_checkpoint` saves every recoverable"),
    "DeviceStatsMonitor": Entry(
        "works", "for what the CPU does it needs `psutil`, and says so before training"
    ),
    "EarlyStopping": Entry("works", "monitors `train_loss`, `valid_loss`, `meta`, `brain.log`"),
    "EMAWeightAveraging": Entry(
        "works",
        "validation, `evaluate()` and the end of training see the average; the Checkpointer's files "
        "have the weights of training, and the average beside them",
    ),
    "GradientAccumulationScheduler": Entry("automatic"),
    "LambdaCallback": WORKS,
    "LearningRateFinder": Entry(
        "automatic",
        "sets the rate of the optimizer, and of `module.lr`; a `fit()` that goes on from a "
        "checkpoint does not search again, nor does your own Trainer's",
    ),
    "LearningRateMonitor": WORKS,
    "ModelCheckpoint": Entry("works", "all modes; see Checkpoints above"),
    "ModelPruning": Entry(
        "works",
        "what is saved of pruned modules is evaluated and gone on with, with our Checkpointer and, from "
        "torch 2.5 on, with SpeechBrain's",
    ),
    "ModelSummary": WORKS,
    "OnExceptionCheckpoint": Entry("works", "`fit()` goes on from it by itself"),
    "ProgressBar": Entry(
        "works",
        "takes the place of SpeechBrain's bar; `--noprogressbar` leaves it out, with a warning",
    ),
    "RichModelSummary": Entry("works", "needs `rich`"),
    "RichProgressBar": Entry("works", "needs `rich`"),
    "SpikeDetection": Entry("works", "after a resume its running mean begins anew"),
    "StochasticWeightAveraging": Entry(
        "automatic",
        "in `fit()` `swa_epoch_start` must be a number of epochs, and batch norms are not updated. "
        "The average is in the modules when `fit()` returns, and in no checkpoint: save one then, "
        "if `evaluate()` is to load it",
    ),
    "ThroughputMonitor": Entry("works", "`log_every_n_steps` must be set so that it is reached"),
    "Timer": WORKS,
    "TQDMProgressBar": WORKS,
    "WeightAveraging": Entry("works", "as `EMAWeightAveraging`"),
}

LOGGERS: dict[str, Entry] = {
    "CometLogger": Entry(
        "works", "`logger: comet`; the extra `comet`, and an API key: without one it keeps nothing"
    ),
    "CSVLogger": Entry("works", "`logger: csv`"),
    "LitLogger": Entry(
        "works", "given as an object; needs `litlogger`, tested with a stand-in for that package"
    ),
    "Logger": Entry("works", "any subclass"),
    "MLFlowLogger": Entry(
        "works",
        "`logger: mlflow`; the extra `mlflow`; writes to `mlruns` in the output folder, or where "
        "`MLFLOW_TRACKING_URI` says",
    ),
    "TensorBoardLogger": Entry("works", "`logger: tensorboard`; the extra `tensorboard`"),
    "WandbLogger": Entry("works", "`logger: wandb`; the extra `wandb`; `WANDB_MODE` rules"),
}

PROFILERS: dict[str, Entry] = {
    "AdvancedProfiler": Entry("works", "`profiler: advanced`"),
    "PassThroughProfiler": WORKS,
    "Profiler": Entry("works", "any subclass"),
    "PyTorchProfiler": Entry("works", "`profiler: pytorch`; `profile_training` is a run option"),
    "SimpleProfiler": Entry("works", "`profiler: simple`; the report goes to the output folder"),
    "XLAProfiler": Entry(
        "works", "given as an object; needs `torch_xla`, tested with a stand-in for that package"
    ),
}

BY_OPTION = "set by the run option `{}`"

TRAINER_ARGUMENTS: dict[str, Entry] = {
    "accelerator": Entry("works", "as a name it must be the run option `device`, where a Brain trains; another one is refused"),
    "accumulate_grad_batches": Entry("refused", BY_OPTION.format("grad_accumulation_factor")),
    "barebones": Entry("own Trainer", "values that are logged are dropped"),
    "benchmark": Entry("works", "never on by itself"),
    "callbacks": Entry("works", "see below"),
    "check_val_every_n_epoch": WORKS,
    "default_root_dir": Entry("works", "by default `output_folder` of the hparams"),
    "detect_anomaly": WORKS,
    "deterministic": WORKS,
    "devices": Entry("works", "one; several with `brain-lightning run` or torchrun, and a clear error without"),
    "enable_autolog_hparams": Entry("own Trainer", "for a subclass of BrainModule that saves hyperparameters; a Brain's are its own"),
    "enable_checkpointing": Entry("works", "off unless a callback that saves is given"),
    "enable_model_summary": Entry("works", "off unless asked for"),
    "enable_progress_bar": Entry("refused", BY_OPTION.format("noprogressbar")),
    "fast_dev_run": WORKS,
    "gradient_clip_algorithm": Entry("refused", BY_OPTION.format("max_grad_norm")),
    "gradient_clip_val": Entry("refused", BY_OPTION.format("max_grad_norm")),
    "inference_mode": Entry("refused", "recipes may train on what they compute in evaluation; your own Trainer's rules there"),
    "limit_predict_batches": Entry("own Trainer"),
    "limit_test_batches": WORKS,
    "limit_train_batches": WORKS,
    "limit_val_batches": WORKS,
    "log_every_n_steps": WORKS,
    "logger": Entry("works", "short names: csv, tensorboard, mlflow, wandb, comet"),
    "max_epochs": Entry("own Trainer", "in `fit()` the epoch counter says it"),
    "max_steps": Entry("works", "ends without validation, as Lightning does; the run option "
                       "`optimizer_step_limit` validates, also where an interval says when"),
    "max_time": WORKS,
    "min_epochs": WORKS,
    "min_steps": WORKS,
    "model_registry": Entry("handed on", "the Trainer has it; Lightning's cloud was not tried"),
    "num_nodes": Entry("works", "one; several with torchrun on each machine, and a clear error without"),
    "num_sanity_val_steps": Entry("own Trainer", "without `on_stage_end`, which would save"),
    "overfit_batches": Entry("works", "the same batches in every epoch, also of a shuffled loader"),
    "plugins": Entry("works", "those for checkpoints tested; precision is the run option `precision`"),
    "precision": Entry("refused", BY_OPTION.format("precision")),
    "profiler": Entry("works", "short names: simple, advanced, pytorch"),
    "reload_dataloaders_every_n_epochs": Entry("own Trainer", "in `fit()` the loaders are given"),
    "strategy": Entry("works", "which ones, and with what: [scaling.md](scaling.md)"),
    "sync_batchnorm": Entry("own Trainer", "in `fit()` without effect: under torchrun Brain converts batch norms itself, as SpeechBrain does"),
    "use_distributed_sampler": Entry("refused", "the samplers are Brain's"),
    "val_check_interval": Entry("works", "batches, a share of the epoch, or a duration (in one process, from Lightning 2.6 on); across epochs with `check_val_every_n_epoch: null`, which `val_interval_steps` does for both"),
}  # fmt: skip
