"""The runs that a Brain starts: fit, validate, evaluate."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from brain_lightning.engine.brain_module import BrainModule
from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.lightning_checkpoint import read_checkpoint_file
from brain_lightning.engine.checkpoints.requeue import (
    prefer_newest_progress,
    requeue_without_saving,
)
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.lightning_internals import decide_sigterm_together
from brain_lightning.engine.logs.logger_continuation import LoggerContinuation
from brain_lightning.engine.logs.train_log_forwarding import forward_train_logs
from brain_lightning.engine.logs.train_log_repeats import forget_start
from brain_lightning.engine.optimization.hook_listeners import heard_only_in
from brain_lightning.engine.processes.failures import failures_told
from brain_lightning.engine.processes.joint_step import decides_together
from brain_lightning.engine.stages.batch_overfitting import FirstBatches
from brain_lightning.engine.stages.datamodule_run import (
    EndOfDataModule,
    is_loaded_before_loaders,
)
from brain_lightning.engine.stages.fit_run import FitRun
from brain_lightning.engine.stages.fit_validation import set_epoch_in_progress
from brain_lightning.engine.stages.stop_iteration import RecipeStopIteration
from brain_lightning.engine.stages.test_run import TestRun
from brain_lightning.engine.trainer.progress_bar import StageBar
from brain_lightning.engine.trainer.quiet import ignore_missing_last_checkpoint, quiet_lightning
from brain_lightning.engine.trainer.trainer_callbacks import callbacks_of, saves_on_exception
from brain_lightning.engine.trainer.trainer_configuration import make_trainer, plain_loading
from brain_lightning.parts.data.iterations_in_use import let_them_go_on
from brain_lightning.parts.epochs.epoch_source import EpochSource


def run_fit(
    brain: BrainProtocol,
    epoch_counter: Iterable[int],
    train_loader: Iterable[Any],
    valid_loader: Iterable[Any] | None,
    progressbar: bool,
    ckpt_path: str | None = None,
    datamodule: pl.LightningDataModule | None = None,
) -> None:
    """Train ``brain``: what ``Brain.fit()`` does once the loaders are made.

    Args:
        brain: the recipe.
        epoch_counter: yields the number of each epoch.
        train_loader: training batches.
        valid_loader: validation batches, or None.
        progressbar: whether to show the bars (on the main process).
        ckpt_path: a Lightning checkpoint to resume from, as for ``Trainer.fit``.
        datamodule: where the loaders come from, if from one: its hooks see each batch.
    """
    overfit = connection_of(brain).settings.trainer.get("overfit_batches")
    if overfit:
        train_loader = FirstBatches(train_loader, overfit)
    bar = StageBar(progressbar, brain.tqdm_barcolor)
    run = FitRun(brain, EpochSource(epoch_counter), train_loader, valid_loader, bar, epoch_counter)
    run.datamodule = datamodule
    run.loads_datamodule = not is_loaded_before_loaders(ckpt_path)
    module = BrainModule(brain, fit_run=run)
    connection = connection_of(brain)
    run.is_inner = connection.module is not None
    outer_lines = connection.repeated_lines
    start = partial(_fit, run=run, module=module, ckpt_path=ckpt_path)
    try:
        _start(brain, bar, start, recipe_validates=run.validation.recipe_validates)
        if not run.is_inner:
            forget_start(brain)
    finally:
        forget_start(brain, only_if_useless=True)
        set_epoch_in_progress(brain.checkpointer, False)
        connection.repeated_lines = outer_lines
        if not run.is_inner:
            let_them_go_on(())
        run.release()


def _fit(trainer: pl.Trainer, run: FitRun, module: BrainModule, ckpt_path: str | None) -> None:
    run.requeue.listen(trainer)
    if not run.is_inner:
        run.loggers = LoggerContinuation(trainer)
    if ckpt_path is None:
        prefer_newest_progress(trainer, run.brain)
        if saves_on_exception(callbacks_of(trainer)):
            ignore_missing_last_checkpoint()
    elif os.path.isfile(ckpt_path):
        read_checkpoint_file(ckpt_path)  # says what is wrong with it, as Lightning would not
    if run.datamodule is not None:
        run.datamodule.trainer = trainer
        callbacks_of(trainer).append(EndOfDataModule(run.datamodule))
    trainer.fit(
        module,
        run.train_tickets,
        run.validation.tickets,
        ckpt_path=ckpt_path,
        **plain_loading(trainer),
    )


def run_validation(
    brain: BrainProtocol, valid_loader: Iterable[Any], epoch: int | None, progressbar: bool
) -> None:
    """Validate: what the default ``_fit_valid`` does.

    Called for a fit, at the end of its epoch, it is that fit's validation. Called by the recipe in
    between, as after each thousandth batch, or outside of a fit, it is a run of its own.
    """
    outer = connection_of(brain).module
    outer_run = None if outer is None else outer.fit_run
    if outer is not None and outer_run is not None and outer_run.validation.is_asked_for:
        outer_run.validation.run_over(outer.trainer, valid_loader)
        return
    bar = StageBar(progressbar, brain.tqdm_barcolor)
    run = FitRun(brain, valid_loader=valid_loader, bar=bar)
    run.training.epoch = epoch
    module = BrainModule(brain, fit_run=run)

    def start(trainer: pl.Trainer) -> None:
        requeue_without_saving(trainer)
        trainer.validate(module, run.validation.tickets, verbose=False)

    try:
        _start(brain, bar, start)
    finally:
        run.release()


def run_evaluate(
    brain: BrainProtocol,
    test_loader: Iterable[Any],
    max_key: str | None,
    min_key: str | None,
    progressbar: bool,
) -> Any:
    """Test ``brain`` and return the average loss: what ``Brain.evaluate()`` does."""
    bar = StageBar(progressbar, brain.tqdm_barcolor)
    run = TestRun(brain, test_loader, max_key, min_key, bar)
    module = BrainModule(brain, test_run=run)

    def start(trainer: pl.Trainer) -> None:
        requeue_without_saving(trainer)
        trainer.test(module, run.tickets, verbose=False)

    try:
        _start(brain, bar, start)
    finally:
        run.release()
    return run.average


def _start(
    brain: BrainProtocol,
    bar: StageBar,
    start: Callable[[pl.Trainer], None],
    recipe_validates: bool = False,
) -> None:
    connection = connection_of(brain)
    asked = bool(connection.settings.trainer.get("callbacks"))
    with (
        quiet_lightning(asked),
        _plain_termination(),
        failures_told(brain),
        _plain_keyboard_interrupt(),
        _gradients_off_stay_off(),
        forward_train_logs(brain),
    ):
        trainer = make_trainer(brain, connection.settings, bar, recipe_validates)
        if decides_together(trainer):
            decide_sigterm_together(trainer)
        try:
            with heard_only_in(trainer):
                start(trainer)
        except RecipeStopIteration as error:
            connection.interval_saver.let_finish()
            raise error.stop from None
        except BaseException:
            connection.interval_saver.let_finish()
            raise
        finally:
            bar.close()
        connection.interval_saver.wait()


@contextmanager
def _gradients_off_stay_off() -> Iterator[None]:
    """Give the caller's ``torch.no_grad()`` back; Lightning switches gradients on and leaves them.

    What a recipe switches off itself stays as the recipe left it.
    """
    enabled = torch.is_grad_enabled()
    try:
        yield
    finally:
        if not enabled:
            torch.set_grad_enabled(False)


@contextmanager
def _plain_termination() -> Iterator[None]:
    """End by the signal where Lightning, having stopped after a batch, exits with status 0.

    A scheduler would take the job for a finished one. A handler of the user's has been called by
    then, and keeps Lightning's exception, with the status that shells give such an end.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if in_main_thread else None
    try:
        yield
    except SIGTERMException as error:
        if handler is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGTERM)
        error.code = error.code or 128 + signal.SIGTERM
        raise


@contextmanager
def _plain_keyboard_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt where Lightning, after its teardown, exits the interpreter.

    PL#19976: it leaves SIGINT ignored and calls ``sys.exit(1)``; in a notebook or a recipe with its
    own ``except KeyboardInterrupt`` that is not what Ctrl-C does.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if in_main_thread else None
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        raise error.__context__ from None
