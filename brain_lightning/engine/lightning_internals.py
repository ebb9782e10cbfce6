"""Every name of Lightning that is not public and that we use anyway, each with its reason.

Tried with Lightning 2.5.0 and 2.6. Nothing here replaces a function or a class of Lightning for
others: counters and flags are read and set, loops are run, and three parts of a Brain's own Trainer
are given as subclasses. Whoever supports a new version starts in this file.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import (
    DeviceStatsMonitor,
    LearningRateFinder,
    ModelCheckpoint,
    RichProgressBar,
    SpikeDetection,
    device_stats_monitor,
)
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from torch.optim.swa_utils import AveragedModel
from typing_extensions import override


class StepCounter:
    """Keeps ``trainer.global_step`` and the loggers' step at Brain's ``optimizer_step``.

    Why: Brain steps its own optimizers, so Lightning, which counts the steps of its wrappers, would
    stay at zero and ``ModelCheckpoint`` would never save (PL#17167); several optimizers would count
    several times (PL#17958). Names: ``epoch_loop.manual_optimization.optim_step_progress``,
    ``epoch_loop.automatic_optimization.optim_progress``, ``epoch_loop._batches_that_stepped``.
    """

    def __init__(self, trainer: pl.Trainer, automatic: bool) -> None:
        """Find the counter that ``trainer.global_step`` reads."""
        self._epoch_loop = epoch_loop = trainer.fit_loop.epoch_loop
        if automatic:
            self._steps: Any = epoch_loop.automatic_optimization.optim_progress.optimizer.step.total
        else:
            self._steps = epoch_loop.manual_optimization.optim_step_progress.total

    def set(self, optimizer_step: int) -> None:
        """Make ``trainer.global_step`` equal ``optimizer_step``.

        Lightning adds one to the loggers' step after the batch, hence the one less here.
        """
        self._steps.ready = self._steps.completed = optimizer_step
        self._epoch_loop._batches_that_stepped = max(optimizer_step - 1, 0)

    def set_inside_step(self, optimizer_step: int) -> None:
        """The same where Lightning is about to count a step of its own."""
        self._steps.ready, self._steps.completed = optimizer_step, optimizer_step - 1
        self._epoch_loop._batches_that_stepped = max(optimizer_step - 1, 0)

    def before_batch(self) -> None:
        """Put the loggers' step back to zero where no optimizer has stepped yet.

        Lightning has counted batches that only accumulate.
        """
        if self._steps.completed == 0:
            self._epoch_loop._batches_that_stepped = 0

    def restore(self, optimizer_step: int) -> None:
        """Set both counters as they are between two batches (after a recovery)."""
        self._steps.ready = self._steps.completed = optimizer_step
        self._epoch_loop._batches_that_stepped = optimizer_step


def logged_step(trainer: pl.Trainer) -> int:
    """Return the loggers' x axis: the number of the last optimizer step, from zero.

    Why: it is where ``LightningModule.log`` puts its values, and they belong together.
    Names: ``epoch_loop._batches_that_stepped``.
    """
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def values_to_be_logged(trainer: pl.Trainer) -> dict[str, Any]:
    """Return what the loggers will get of the batch in progress, after all hooks at its end.

    Why: a checkpoint that is saved in such a hook comes before. Names:
    ``trainer._logger_connector``, ``module._current_fx_name``.
    """
    connector = trainer._logger_connector
    is_in_hook = trainer.lightning_module._current_fx_name == "on_train_batch_end"
    if not (trainer.training and is_in_hook and connector.should_update_logs):
        return {}
    return dict(connector.metrics["log"])


@contextmanager
def logged_at_the_last_step(trainer: pl.Trainer, optimizer_step: int) -> Iterator[None]:
    """Let what is logged in the block belong to the last of ``optimizer_step`` steps.

    Why: after a batch Lightning has counted its step already, and takes it back for what it logs
    itself. Names: as above.
    """
    loop = trainer.fit_loop.epoch_loop
    before, loop._batches_that_stepped = loop._batches_that_stepped, max(optimizer_step - 1, 0)
    try:
        yield
    finally:
        loop._batches_that_stepped = before


def set_logged_step(trainer: pl.Trainer, optimizer_step: int) -> None:
    """Put the loggers' x axis after ``optimizer_step`` steps, in a Trainer that only evaluates.

    Why: what is measured on a trained model belongs to its last step, not to step zero.
    Names: as above.
    """
    trainer.fit_loop.epoch_loop._batches_that_stepped = max(optimizer_step - 1, 0)


def set_current_epoch(trainer: pl.Trainer, completed_epochs: int, opened: bool = False) -> None:
    """Make ``trainer.current_epoch`` equal ``completed_epochs``.

    Why: the epoch counter of the recipe rules and may begin anywhere after a recovery.
    Names: ``fit_loop.epoch_progress``.

    Args:
        trainer: the Trainer.
        completed_epochs: epochs done.
        opened: Lightning has counted the epoch that begins as ready.
    """
    progress: Any = trainer.fit_loop.epoch_progress
    for tracker in (progress.total, progress.current):
        tracker.started = tracker.processed = tracker.completed = completed_epochs
        tracker.ready = completed_epochs + int(opened)


def set_batches_done(trainer: pl.Trainer, batches: int) -> None:
    """Count ``batches`` of the current epoch as done, after a recovery in its middle.

    Why: the recipe's loader skips them by itself, Lightning has not seen them.
    Names: ``epoch_loop.batch_progress``, ``fit_loop._data_fetcher``.
    """
    progress = trainer.fit_loop.epoch_loop.batch_progress
    progress.total.increment_by(batches)
    progress.current.increment_by(batches)
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    fetcher.fetched += batches


def training_loaders(trainer: pl.Trainer) -> list[Any]:
    """Return the loaders that the Trainer trains with, one by one.

    Why: ``trainer.train_dataloader`` has them in any container.
    Names: ``fit_loop._combined_loader``.
    """
    combined = trainer.fit_loop._combined_loader
    return [] if combined is None else list(combined.flattened)


def begin_training_loaders(trainer: pl.Trainer) -> None:
    """Make the iterators of an epoch, as Lightning does for all but a run's first one.

    Why: in a resumed run it takes those that were made before anything was restored.
    Names: ``fit_loop._data_fetcher``.
    """
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    iter(fetcher)


def begins_training_loaders(trainer: pl.Trainer) -> bool:
    """Whether Lightning will make the iterators of the epoch that begins.

    Why: 2.5 does so after an epoch that was resumed from, 2.6 does not. Names:
    ``fit_loop.is_resuming``, ``epoch_loop.restarting``.
    """
    loop = trainer.fit_loop
    resumes = getattr(loop, "is_resuming", False) or loop.epoch_loop.restarting
    return trainer.current_epoch > 0 and not resumes


def pass_over_batches(trainer: pl.Trainer, batches: int) -> None:
    """Fetch batches and drop them; Lightning has counted them already.

    Why: it begins a loader anew that has no state. Names: ``fit_loop._data_fetcher.iterator``.
    """
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    assert fetcher.iterator is not None
    for _ in range(batches):
        if next(fetcher.iterator, None) is None:
            return


class _FirstAct:
    """An iterator before whose next value something is done."""

    def __init__(self, iterator: Iterator[Any], act: Callable[[], None]) -> None:
        self._iterator = iterator
        self._act: Callable[[], None] | None = act

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        act, self._act = self._act, None
        if act is not None:
            act()
        return next(self._iterator)


def before_next_training_batch(trainer: pl.Trainer, act: Callable[[], None]) -> None:
    """Call ``act`` right before the next batch is fetched.

    Why: resumed where a validation has been done, Lightning begins the validation loader once more
    to count its batches, which draws a random number. Names: ``fit_loop._data_fetcher.iterator``.
    """
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    assert fetcher.iterator is not None
    fetcher.iterator = _FirstAct(fetcher.iterator, act)


def has_more_epochs(trainer: pl.Trainer) -> bool:
    """Whether the Trainer goes on to another epoch. Names: ``fit_loop.done``."""
    return not trainer.fit_loop.done


def total_batches(trainer: pl.Trainer) -> int:
    """Return how many training batches were done in all epochs.

    Why: with ``check_val_every_n_epoch=None`` validation is due by it. Names: as above.
    """
    return int(trainer.fit_loop.epoch_loop.batch_progress.total.ready)


def set_total_batches(trainer: pl.Trainer, batches: int) -> None:
    """Count ``batches`` as done in the epochs before this one. Why and names: as above."""
    total: Any = trainer.fit_loop.epoch_loop.batch_progress.total
    total.ready = total.started = total.processed = total.completed = batches


def set_training_batches(trainer: pl.Trainer, batches: float) -> None:
    """Make ``trainer.num_training_batches`` true for the epoch that begins.

    Why: Lightning asks a loader for its length once; the number of batches of a dynamic batch
    sampler changes from epoch to epoch. Names:
    ``fit_loop.max_batches``, ``trainer.val_check_batch``.
    """
    trainer.fit_loop.max_batches = batches
    if validates_after_epochs(trainer):
        trainer.val_check_batch = max(1, batches)


def validates_by_share(trainer: pl.Trainer) -> bool:
    """Whether validation comes after each share of an epoch's batches, such as a quarter."""
    by_time = validates_by_time(trainer)
    return not by_time and isinstance(share := trainer.val_check_interval, float) and share < 1


def set_share_between_validations(trainer: pl.Trainer, batches: int) -> None:
    """Make the share true for an epoch of ``batches``. Why: as above.

    Names: ``trainer.val_check_batch``.
    """
    trainer.val_check_batch = max(1, int(batches * trainer.val_check_interval))


def validates_by_time(trainer: pl.Trainer) -> bool:
    """Whether validation comes when a duration is over (``val_check_interval="00:00:10:00"``).

    Why: ``trainer.val_check_interval`` is not there then. Names: ``_val_check_time_interval``.
    """
    return getattr(trainer, "_val_check_time_interval", None) is not None  # 2.5 has none


def validates_after_epochs(trainer: pl.Trainer) -> bool:
    """Whether validation comes after epochs, and not by batches, a share of them or by time."""
    return not validates_by_time(trainer) and trainer.val_check_interval == 1.0


def end_epoch_after_this_batch(trainer: pl.Trainer) -> None:
    """Make this batch the last one of its epoch; validation follows.

    Why: debug mode, the limit of optimizer steps, and a loader that ends before its length end an
    epoch early. Returning -1 from ``on_train_batch_start`` skips validation, and
    ``trainer.should_stop`` ends the whole run. Names: ``epoch_loop.batch_progress.is_last_batch``,
    ``trainer.val_check_batch``.
    """
    trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True
    if validates_after_epochs(trainer):
        trainer.val_check_batch = float("inf")


def extend_epoch(trainer: pl.Trainer) -> None:
    """Let the epoch go on although the loader's length is reached: it has more batches.

    Why: a loader's length may be an estimate (torch itself only warns); SpeechBrain trains on what
    comes. Names: as above, and ``fit_loop._data_fetcher.length``.
    """
    trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = False
    trainer.fit_loop.max_batches = float("inf")
    if validates_after_epochs(trainer):
        trainer.val_check_batch = float("inf")
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    fetcher.length = 2**62  # not None, which would switch on fetching ahead
    fetcher.done = False


def accumulates(trainer: pl.Trainer) -> bool:
    """Whether Lightning only accumulates gradients in the batch in progress.

    Why: it calls no hook of the module where it does not step.
    Names: ``epoch_loop._should_accumulate``.
    """
    return bool(trainer.fit_loop.epoch_loop._should_accumulate())


def save_by_time(trainer: pl.Trainer) -> None:
    """Let every ``ModelCheckpoint(train_time_interval=)`` save whose time has come.

    Why: under manual optimization the callback never does (PR#21699). Where a version of Lightning
    does it after all, the callback has just taken the time, and nothing is due here.
    Names: ``_train_time_interval, _last_time_checked, _should_skip_saving_checkpoint,
    _monitor_candidates, _save_topk_checkpoint, _save_last_checkpoint`` of ModelCheckpoint.
    """
    for callback in trainer.checkpoint_callbacks:
        interval = getattr(callback, "_train_time_interval", None)
        if interval is None or not isinstance(callback, ModelCheckpoint):
            continue
        since = callback._last_time_checked
        due = since is not None and time.monotonic() - since >= interval.total_seconds()
        due = trainer.strategy.broadcast(due)
        if not due or callback._should_skip_saving_checkpoint(trainer):
            continue
        callback._last_time_checked = time.monotonic()
        candidates = callback._monitor_candidates(trainer)
        if callback.monitor is None or callback.monitor in candidates:
            callback._save_topk_checkpoint(trainer, candidates)
            callback._save_last_checkpoint(trainer, candidates)


def follow_until_first_average(trainer: pl.Trainer, module: torch.nn.Module) -> None:
    """Let averages that were never updated be the weights as they are.

    Why: the callback swaps its average in for validation and at the end of training even before
    its first update; what it then has are the weights of before the recipe recovered or trained
    (PL#21724). Names: ``_average_model`` of WeightAveraging.
    """
    for callback in vars(trainer)["callbacks"]:
        average = getattr(callback, "_average_model", None)
        if not isinstance(average, AveragedModel) or int(average.n_averaged) > 0:
            continue
        now = itertools.chain(module.parameters(), module.buffers())
        averaged = itertools.chain(average.module.parameters(), average.module.buffers())
        for target, source in zip(averaged, now, strict=True):
            target.data.copy_(source.data)


def allow_spike_detection_to_load(trainer: pl.Trainer) -> None:
    """Have ``SpikeDetection`` take its state back from a checkpoint.

    Why: it looks for its running mean under a name that it never has, and fails (2.6).
    Names: ``running`` of SpikeDetection.
    """
    for callback in vars(trainer)["callbacks"]:
        if isinstance(callback, SpikeDetection) and not hasattr(callback, "running"):
            callback.running = callback.running_mean  # type: ignore[attr-defined]


def is_attached(module: pl.LightningModule) -> bool:
    """Whether a Trainer has run, or runs, the module.

    Why: asked for its Trainer it raises where it has none. Names: ``_trainer``.
    """
    return module._trainer is not None


def count_epochs_in_rich_bars(
    trainer: pl.Trainer, last: Callable[[], int | None]
) -> Callable[[], None]:
    """Have ``RichProgressBar`` say "Epoch 0/9", or "Epoch 0" where nobody knows the last one.

    Why: it goes by ``max_epochs``, and says "Epoch 0/-2" where there is none.
    Names: ``_get_train_description``.

    Args:
        trainer: of a Brain's own making.
        last: returns the last value that ``trainer.current_epoch`` is to have, or None.

    Returns:
        What gives the callbacks their own wording back.
    """
    bars = [each for each in vars(trainer)["callbacks"] if isinstance(each, RichProgressBar)]

    def describe(bar: RichProgressBar, epoch: int) -> str:
        text = type(bar)._get_train_description(bar, epoch)
        end = last()
        return text.replace("/-2", "" if end is None else f"/{end}", 1).ljust(len(text))

    for bar in bars:
        vars(bar)["_get_train_description"] = partial(describe, bar)

    def forget() -> None:
        for bar in bars:
            vars(bar).pop("_get_train_description", None)

    return forget


def is_tuners(finder: LearningRateFinder) -> bool:
    """Whether ``Tuner.lr_find`` has made the callback, for a search and no training.

    Why: the Tuner gives the Trainer a callback like any other. Names: ``_early_exit`` of it.
    """
    return finder._early_exit


def wants_psutil(monitor: DeviceStatsMonitor, device: torch.device) -> bool:
    """Whether the callback will look for a package that is not installed.

    Why: with ``cpu_stats=True`` it does not look before the first batch.
    Names: ``_cpu_stats`` of it, ``_PSUTIL_AVAILABLE`` of its module.
    """
    wanted = monitor._cpu_stats
    wanted = device.type == "cpu" if wanted is None else wanted
    return wanted and not vars(device_stats_monitor)["_PSUTIL_AVAILABLE"]


def run_validation_loop(trainer: pl.Trainer) -> None:
    """Run the validation of a fit at a moment that is not Lightning's own.

    Why: a recipe may override ``_fit_valid`` and call it when it likes, and an epoch that was
    resumed after its last batch has no batch after which Lightning would validate.
    Names: ``epoch_loop.val_loop.run``, ``trainer._logger_connector``, and
    ``module._current_fx_name``, which a loader leaves behind that ends before its length.
    """
    connector, module = trainer._logger_connector, trainer.lightning_module
    first_loop_iter = connector._first_loop_iter
    hook = module._current_fx_name
    trainer.validating = True
    try:
        trainer.fit_loop.epoch_loop.val_loop.run()
    finally:
        trainer.training = True
        connector._first_loop_iter = first_loop_iter
        module._current_fx_name = hook
        connector.epoch_end_reached()  # as it was when the training epoch ended


def is_last_evaluation_batch(trainer: pl.Trainer) -> bool:
    """Whether no batch follows in the validation or test in progress, as far as Lightning knows.

    Why: callbacks hear of the end of a stage before the module does.
    Names: ``trainer._evaluation_loop.batch_progress.is_last_batch``.
    """
    return trainer._evaluation_loop.batch_progress.is_last_batch


def validation_is_due(trainer: pl.Trainer) -> bool:
    """Whether the Trainer's settings have validation run after the current epoch.

    Why: as above. Names: ``epoch_loop._should_check_val_epoch``.
    """
    return bool(trainer.fit_loop.epoch_loop._should_check_val_epoch())


def validation_comes_after(trainer: pl.Trainer, batch: int) -> bool:
    """Whether the Trainer validates in the middle of its epoch after its batch number ``batch``.

    Why: as above. Names: as above, and ``trainer.val_check_batch``.
    """
    interval = getattr(trainer, "val_check_batch", None)  # 2.5 has none before the loaders
    if not interval or interval == float("inf") or not validation_is_due(trainer):
        return False
    number = total_batches(trainer) if trainer.check_val_every_n_epoch is None else batch
    return number > 0 and number % interval == 0


def batches_of_epoch(trainer: pl.Trainer) -> int:
    """Return how many batches of the epoch in progress were begun.

    Why: validation in its middle is due by it. Names: ``epoch_loop.batch_progress.current``.
    """
    return int(trainer.fit_loop.epoch_loop.batch_progress.current.ready)


class _EpochLoopWithoutBroadcast(_TrainingEpochLoop):
    @override
    def _broadcast_sigterm_tensor(self) -> None:
        """Ask nobody; Lightning calls this before each batch, where there are several processes."""


class _PatientSignals(_SignalConnector):
    """Does in a signal's handler nothing that waits for anybody, or saves."""

    def __init__(self, trainer: pl.Trainer) -> None:
        super().__init__(trainer)
        self.notes_sigterm_only = False
        self.note_requeue: Callable[[int, object], None] | None = None

    @override
    def _sigterm_notifier_fn(self, signum: int, frame: Any) -> None:
        if self.notes_sigterm_only:
            self.received_sigterm = True
        else:
            super()._sigterm_notifier_fn(signum, frame)

    @override
    def _slurm_sigusr_handler_fn(self, signum: int, frame: Any) -> None:
        if self.note_requeue is not None:
            self.note_requeue(signum, frame)
        else:
            super()._slurm_sigusr_handler_fn(signum, frame)


def _signals_of(trainer: pl.Trainer) -> _PatientSignals:
    """Return what hears signals in a Trainer of a Brain's, before it has begun to listen."""
    present = trainer._signal_connector
    if not isinstance(present, _PatientSignals):
        trainer._signal_connector = present = _PatientSignals(trainer)
    return present


def decide_sigterm_together(trainer: pl.Trainer) -> None:
    """Let a SIGTERM only set Lightning's flag; our exchange after each batch shares it.

    Why: Lightning broadcasts the flag at every training step and waits for the answer, on the GPU
    where there is one (PL#20825); and its signal handler broadcasts too, in the middle of whatever
    the processes exchange at that moment, and waits for processes that may be gone.
    Names: ``_TrainingEpochLoop._broadcast_sigterm_tensor``, ``_SignalConnector`` and its
    ``_sigterm_notifier_fn``.

    Args:
        trainer: of a Brain's own making, before its run.
    """
    loop = trainer.fit_loop.epoch_loop
    trainer.fit_loop.epoch_loop = _EpochLoopWithoutBroadcast(
        trainer, loop.min_steps, loop.max_steps
    )
    _signals_of(trainer).notes_sigterm_only = True


def is_open(logger: Any) -> bool:
    """Whether a CSVLogger or TensorBoardLogger has begun to write. Names: ``_experiment``."""
    return logger._experiment is not None


def chooses_version(logger: Any) -> bool:
    """Whether the logger is free to choose its version. Names: ``_version``.

    Why: asking it for ``version`` makes it choose.
    """
    return logger._version is None


def set_version(logger: Any, version: int | str | None) -> None:
    """Have the logger write to another version from now on. Names: as above.

    Why: loggers choose before it is known which run is resumed.
    """
    logger._version, logger._experiment = version, None


def call_on_requeue_signal(trainer: pl.Trainer, note: Callable[[int, object], None]) -> None:
    """Have SLURM's signal before the end of a job call ``note``.

    Why: Lightning saves at once, wherever the run is. Names: ``_SignalConnector`` and its
    ``_slurm_sigusr_handler_fn``.

    Args:
        trainer: of a Brain's own making, before its run.
        note: called with the signal's number and the frame that it interrupts.
    """
    _signals_of(trainer).note_requeue = note


def can_be_requeued(trainer: pl.Trainer) -> bool:
    """Whether Lightning hears SLURM's signal; the same in all processes.

    Names: ``_accelerator_connector.cluster_environment``.
    """
    environment = trainer._accelerator_connector.cluster_environment
    return isinstance(environment, SLURMEnvironment) and bool(environment.auto_requeue)


def requeue(trainer: pl.Trainer, signum: int) -> None:
    """Save ``hpc_ckpt_N.ckpt`` and queue the job again, as Lightning does. Names: as above."""
    frame: Any = None
    _SignalConnector._slurm_sigusr_handler_fn(trainer._signal_connector, signum, frame)


def requeue_checkpoint(trainer: pl.Trainer) -> str | None:
    """Return the checkpoint of a former job from which Lightning would go on.

    Names: ``_checkpoint_connector._hpc_resume_path``.
    """
    if not SLURMEnvironment.detect():
        return None
    return trainer._checkpoint_connector._hpc_resume_path


class _NoCheckpointChosen(_CheckpointConnector):
    @override
    def _parse_ckpt_path(self, *arguments: object, **options: object) -> None:
        """Choose none."""


def look_for_no_checkpoint(trainer: pl.Trainer) -> None:
    """Have ``fit()`` without ``ckpt_path`` load none.

    Why: nothing public says so. Names: ``_CheckpointConnector`` and its ``_parse_ckpt_path``.

    Args:
        trainer: of a Brain's own making, before its run.
    """
    trainer._checkpoint_connector = _NoCheckpointChosen(trainer)


def receive_sigterm(trainer: pl.Trainer) -> None:
    """Have Lightning end the run after this batch. Names: ``_signal_connector``."""
    trainer._signal_connector.received_sigterm = True
