"""Brain: what a recipe subclasses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn import Module, ModuleDict
from torch.optim import Optimizer

from brain_lightning.engine.checkpoints.lightning_checkpoint import checked_path
from brain_lightning.engine.checkpoints.resume import resume_from
from brain_lightning.engine.checkpoints.resume_state import capture_resume_state
from brain_lightning.engine.connection import ATTRIBUTE, Connection, connection_of
from brain_lightning.engine.defaults import brain_default, is_overridden
from brain_lightning.engine.optimization.batch_size_search import with_found_batch_size
from brain_lightning.engine.optimization.finetuning import save_names_of_parameters
from brain_lightning.engine.optimization.uncounted_steps import restore_uncounted_steps
from brain_lightning.engine.processes.distribution import check_strategy, distribute
from brain_lightning.engine.processes.gradient_exchange import gradients_kept
from brain_lightning.engine.processes.rank_states import rank_states_known
from brain_lightning.engine.runs import run_evaluate, run_fit, run_validation
from brain_lightning.engine.sharded_modules.sharded_gradients import (
    clip_gradients,
    nonfinite_gradients,
)
from brain_lightning.engine.stages.datamodule_loaders import loaders_of
from brain_lightning.engine.stages.nonfinite_losses import patience_exhausted
from brain_lightning.facade.brain_construction import (
    check_process_group,
    choose_device,
    choose_precision,
    detect_launch,
    place_modules,
    prepare_checkpointer,
    prepare_profiler,
    require_modules,
)
from brain_lightning.facade.brain_options import apply_options
from brain_lightning.facade.brain_state_file import (
    read_brain_state,
    read_draft_meta,
    write_brain_state,
)
from brain_lightning.facade.fit_data import is_loader, require_batches
from brain_lightning.facade.loss_checks import require_scalar_loss
from brain_lightning.facade.module_wrapping import (
    compile_with_inductor,
    compile_with_jit,
    selected_keys,
    wrap_in_data_parallel,
    wrap_in_ddp,
)
from brain_lightning.facade.parameter_report import report_parameters
from brain_lightning.facade.training_sampler import shuffled_loader_arguments
from brain_lightning.facade.weight_decay import without_vector_weight_decay
from brain_lightning.ground.joint_decision import main_process_decides
from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.ranks import (
    if_main_process,
)
from brain_lightning.ground.stage import Stage
from brain_lightning.parts.checkpoints.hooks import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from brain_lightning.parts.checkpoints.resume_file import read_resume_file, write_resume_file
from brain_lightning.parts.data.distributed_arguments import distributed_loader_arguments
from brain_lightning.parts.data.looped_loader import LoopedLoader
from brain_lightning.parts.data.make_dataloader import make_dataloader
from brain_lightning.parts.data.saveable_loader import SaveableDataLoader
from brain_lightning.parts.data.stream_share import StreamShare, is_divisible
from brain_lightning.parts.options.run_options import RunOptions
from brain_lightning.parts.precision.autocast import TorchAutocast

logger = get_logger(__name__)


class _CurrentTrainer:
    """``brain.trainer``. No data descriptor: a recipe may set an attribute of this name."""

    def __get__(self, brain: Any, owner: type) -> Any:
        return self if brain is None else connection_of(brain).trainer


@register_checkpoint_hooks
class Brain:
    """A training recipe: subclass it, define what a batch means, call ``fit`` and ``evaluate``.

    The API is that of SpeechBrain's ``Brain``, and so are the numbers; the loop is Lightning's. The
    two methods that a recipe must define are ``compute_forward`` and ``compute_objectives``; one
    that does more than one update for a batch overrides ``fit_batch``, and ``evaluate_batch``.

    Every run option is an attribute of the Brain. An option that is given in ``run_opts`` goes
    before one in ``hparams``, which goes before the default.

    Example::

        class SimpleBrain(Brain):
            def compute_forward(self, batch, stage):
                return self.modules.model(batch[0])

            def compute_objectives(self, predictions, batch, stage):
                return torch.nn.functional.l1_loss(predictions, batch[0])

        brain = SimpleBrain({"model": model}, opt_class=lambda x: SGD(x, 0.1))
        brain.fit(range(1), ([torch.rand(10, 10), torch.rand(10, 10)],))
    """

    trainer: Any = _CurrentTrainer()
    """The ``lightning.Trainer`` of the fit or evaluate in progress, or of the last one, or None."""

    def __init__(
        self,
        modules: Mapping[str, Module] | None = None,
        opt_class: Callable[..., Optimizer] | None = None,
        hparams: Mapping[str, Any] | None = None,
        run_opts: RunOptions | Mapping[str, Any] | None = None,
        checkpointer: Any = None,
        *,
        trainer: Mapping[str, Any] | None = None,
    ) -> None:
        """Put modules on the device and options on the Brain.

        Args:
            modules: name -> module; in ``self.modules``, trained by default.
            opt_class: makes an optimizer from parameters, such as a partial of ``Adam``.
            hparams: what ``self.hparams`` has as attributes.
            run_opts: run options, as from ``parse_arguments`` or as a dictionary.
            checkpointer: saves and recovers; the Brain and its optimizer are added to it.
            trainer: arguments for ``lightning.Trainer``; they win over hparams["trainer"], and
                those of the command line win over them.

        Raises:
            TypeError: ``modules`` does not map names to modules.
            ValueError: an option that cannot be, alone or on this machine.
        """
        require_modules(modules)
        self.optimizers_dict: dict[str, Optimizer] | None = None
        self.opt_class = opt_class
        self.checkpointer = checkpointer
        settings = apply_options(self, run_opts, hparams, trainer)
        setattr(self, ATTRIBUTE, Connection(settings))
        detect_launch(self)
        choose_device(self)
        choose_precision(self)
        check_strategy(self)
        place_modules(self, modules)
        if hparams is not None:
            self.hparams = SimpleNamespace(**hparams)
        prepare_profiler(self)
        prepare_checkpointer(self)
        self.train_sampler: Any = None
        self.print_trainable_parameters()
        check_process_group(self)
        self.avg_train_loss: Any = 0.0
        self.step = 0
        self.optimizer_step = 0
        if not self.tqdm_colored_bar:
            self.tqdm_barcolor = dict.fromkeys(self.tqdm_barcolor, "")
        self.raw_modules = getattr(self.modules, "module", self.modules)

    # Every run option is an attribute; those that facade and engine read are:
    test_only: bool
    debug: bool
    debug_batches: int
    debug_epochs: int
    debug_persistently: bool
    device: str
    data_parallel_backend: bool
    distributed_backend: str
    distributed_launch: bool
    find_unused_parameters: bool
    jit: bool
    jit_module_keys: list[str] | None
    compile: bool
    compile_module_keys: list[str] | None
    compile_mode: str
    compile_using_fullgraph: bool
    compile_using_dynamic_shape_tracing: bool
    precision: str | None
    eval_precision: str | None
    max_grad_norm: float
    skip_nonfinite_grads: bool
    nonfinite_patience: int
    noprogressbar: bool
    ckpt_interval_minutes: float
    ckpt_interval_steps: int
    grad_accumulation_factor: int
    optimizer_step_limit: int | None
    tqdm_colored_bar: bool
    tqdm_barcolor: dict[str, str]
    remove_vector_weight_decay: bool
    profile_training: bool
    profile_warmup: int
    profile_steps: int

    # and what the stages of construction set:
    device_type: str
    modules: ModuleDict
    hparams: Any
    rank: int
    scaler: torch.amp.GradScaler
    training_ctx: TorchAutocast
    evaluation_ctx: TorchAutocast
    profiler: Any
    optimizer: Optimizer
    nonfinite_count: int
    tot_prof_steps: int

    def print_trainable_parameters(self) -> None:
        """Log how many parameters there are and how many of them are trained."""
        report_parameters(type(self).__name__, self.modules)

    # -- what a recipe defines -----------------------------------------------------------------

    def compute_forward(self, batch: Any, stage: Stage) -> Any:
        """Predict; to be defined by the recipe.

        Args:
            batch: as it comes from the loader; moving it to ``self.device`` is the recipe's work.
            stage: TRAIN, VALID or TEST.

        Returns:
            Whatever ``compute_objectives`` takes.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define compute_forward().")

    def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
        """Compute the loss; to be defined by the recipe.

        Args:
            predictions: what ``compute_forward`` returned.
            batch: the batch.
            stage: TRAIN, VALID or TEST.

        Returns:
            The loss, a tensor with one element.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define compute_objectives().")

    def on_stage_start(self, stage: Stage, epoch: int | None = None) -> None:
        """Called when a stage begins, before the modules change to train or eval mode.

        Args:
            stage: TRAIN, VALID or TEST.
            epoch: the number from the epoch counter; None in TEST.
        """

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        """Called when a stage ends: the place for statistics, learning rates and checkpoints.

        Args:
            stage: TRAIN, VALID or TEST.
            stage_loss: the average of the stage's finite losses.
            epoch: the number from the epoch counter; None in TEST.
        """

    # -- loaders -------------------------------------------------------------------------------

    def make_dataloader(
        self,
        dataset: Any,
        stage: Stage,
        ckpt_prefix: str | None = "dataloader-",
        **loader_kwargs: Any,
    ) -> Any:
        """Make the loader of a data set; ``fit`` and ``evaluate`` call it where they get no loader.

        Args:
            dataset: anything with ``__getitem__`` and ``__len__``, or an IterableDataset.
            stage: in TRAIN, shuffling is reproducible and several processes share the data.
            ckpt_prefix: the checkpointer saves the loader's position under this and the stage's
                name; None keeps it out of checkpoints.
            **loader_kwargs: for the loader; ``looped_nominal_epoch`` makes a LoopedLoader.
        """
        if stage == Stage.TRAIN:
            if self.distributed_launch and is_divisible(dataset):
                dataset = StreamShare(dataset, self.rank, torch.distributed.get_world_size())
            loader_kwargs = self._train_loader_specifics(dataset, loader_kwargs)
        loader = make_dataloader(dataset, **loader_kwargs)
        if (
            self.checkpointer is not None
            and ckpt_prefix is not None
            and isinstance(loader, (SaveableDataLoader, LoopedLoader))
        ):
            self.checkpointer.add_recoverable(ckpt_prefix + stage.name, loader)
        return loader

    def _train_loader_specifics(
        self, dataset: Any, loader_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        if self.distributed_launch:
            sorting = getattr(getattr(self, "hparams", None), "sorting", None)
            loader_kwargs, sampler = distributed_loader_arguments(
                dataset, loader_kwargs, self.rank, shuffle=sorting in (None, "random")
            )
        else:
            loader_kwargs, sampler = shuffled_loader_arguments(dataset, loader_kwargs)
        if sampler is not None:
            self.train_sampler = sampler
        return loader_kwargs

    # -- the start of a fit --------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Called when ``fit`` begins: compile, wrap, make optimizers, recover.

        Order of calls: ``_compile``, ``_wrap_distributed``, ``init_optimizers``,
        ``checkpointer.recover_if_possible``.
        """
        self._compile()
        self._wrap_distributed()
        self.init_optimizers()
        save_names_of_parameters(self)
        if self.checkpointer is not None:
            self.checkpointer.recover_if_possible()

    def init_optimizers(self) -> None:
        """Make the optimizer from ``opt_class``; override it to make several.

        Sets ``self.optimizer`` and ``self.optimizers_dict``, and has the checkpointer save it.
        """
        if self.opt_class is None:
            logger.info("No opt_class is given, so no optimizer is made.")
            return
        parameters: Any = self.modules.parameters()
        if self.remove_vector_weight_decay:
            parameters = without_vector_weight_decay(self.modules)
        self.optimizer = self.opt_class(parameters)
        self.optimizers_dict = {"opt_class": self.optimizer}
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def _compile(self) -> None:
        """Compile the entries of ``modules`` that the options name."""
        inductor_keys = selected_keys(
            "compile", self.compile, self.compile_module_keys, self.modules
        )
        jit_keys = selected_keys("jit", self.jit, self.jit_module_keys, self.modules)
        compiled = compile_with_inductor(
            self.modules,
            inductor_keys,
            self.device,
            mode=self.compile_mode,
            fullgraph=self.compile_using_fullgraph,
            dynamic=self.compile_using_dynamic_shape_tracing,
        )
        compile_with_jit(self.modules, jit_keys - compiled, self.device)

    def _wrap_distributed(self) -> None:
        """Wrap the entries of ``modules`` for several processes or GPUs."""
        if self.distributed_launch:
            distribute(self, wrap_in_ddp)
        elif self.data_parallel_backend:
            wrap_in_data_parallel(self.modules)

    # -- one batch -----------------------------------------------------------------------------

    @brain_default
    def fit_batch(self, batch: Any) -> torch.Tensor:
        """Train on one batch; override it for several updates or losses.

        Order of calls: ``on_fit_batch_start``, ``compute_forward``, ``compute_objectives``,
        ``check_loss_isfinite``, the backward pass, ``optimizers_step`` when
        ``grad_accumulation_factor`` batches are done, ``on_fit_batch_end``.

        Returns:
            The batch's loss, detached, on the CPU.
        """
        should_step = self.step % self.grad_accumulation_factor == 0
        self.on_fit_batch_start(batch, should_step)
        with self.no_sync(not should_step):
            with self.training_ctx:
                outputs = self.compute_forward(batch, Stage.TRAIN)
                loss = self.compute_objectives(outputs, batch, Stage.TRAIN)
            require_scalar_loss(self, loss)
            scaled_loss = self.scaler.scale(loss / self.grad_accumulation_factor)
            self.check_loss_isfinite(scaled_loss)
            connection_of(self).backward(scaled_loss)
        if should_step:
            self.optimizers_step()
        self.on_fit_batch_end(batch, outputs, loss, should_step)
        detached: torch.Tensor = loss.detach().cpu()
        return detached

    def check_loss_isfinite(self, loss: torch.Tensor) -> None:
        """Count a loss that is infinite or not a number.

        Raises:
            ValueError: there were more than ``nonfinite_patience`` of them in this epoch.
        """
        if torch.isfinite(loss):
            return
        self.nonfinite_count += 1
        if self.nonfinite_count > self.nonfinite_patience:
            if connection_of(self).decides_together:
                return  # after the batch all processes raise
            raise patience_exhausted(self.nonfinite_count, self.nonfinite_patience)
        logger.warning(
            "The loss is not finite (%d of %d that are allowed in an epoch).",
            self.nonfinite_count,
            self.nonfinite_patience,
        )

    def check_gradients(self) -> None:
        """Drop, with a warning, each gradient that has an infinite or undefined element."""
        for name, parameter in nonfinite_gradients(self.modules.named_parameters()):
            parameter.grad = None
            logger.warning("The gradient of %s is not finite and is left out.", name)

    @brain_default
    def freeze_optimizers(self, optimizers: dict[str, Optimizer]) -> dict[str, Optimizer]:
        """Return the optimizers that step now; override it to leave some out."""
        return optimizers

    @brain_default
    def optimizers_step(self) -> None:
        """Unscale, clip, check, step and zero the active optimizers, and count the step.

        The first parameter group of each optimizer is clipped, as SpeechBrain does.
        """
        active = self.__active_optimizers()
        if active is None:
            return
        hooks = connection_of(self).optimizer_hooks
        for optimizer in active.values():
            self.scaler.unscale_(optimizer)
        if hooks is not None:
            hooks.before_step(active.values())
        for optimizer in active.values():
            clip_gradients(optimizer.param_groups[0]["params"], self.max_grad_norm)
        if self.skip_nonfinite_grads and not self.scaler.is_enabled():
            self.check_gradients()
        for optimizer in active.values():
            self.scaler.step(optimizer)
        self.scaler.update()
        if hooks is not None:
            hooks.before_zero_grad(active.values())
        for optimizer in active.values():
            optimizer.zero_grad(set_to_none=True)
        self.optimizer_step += 1

    def __active_optimizers(self) -> dict[str, Optimizer] | None:
        if self.optimizers_dict is not None:
            return self.freeze_optimizers(self.optimizers_dict)
        # An init_optimizers() of before optimizers_dict sets self.optimizer only.
        return None if self.opt_class is None else {"optimizer": self.optimizer}

    @brain_default
    def zero_grad(self, set_to_none: bool = False) -> None:
        """Zero the gradients of the active optimizers, or set them to None."""
        if self.optimizers_dict is not None:
            for optimizer in self.freeze_optimizers(self.optimizers_dict).values():
                optimizer.zero_grad(set_to_none=set_to_none)
        elif self.opt_class is not None:
            self.optimizer.zero_grad(set_to_none=set_to_none)

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        """Called when ``fit_batch`` begins, outside of autocast.

        Args:
            batch: the batch.
            should_step: whether the optimizers will step after this batch.
        """

    def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Any, should_step: bool) -> None:
        """Called when ``fit_batch`` ends, outside of autocast.

        Args:
            batch: the batch.
            outputs: what ``compute_forward`` returned.
            loss: what ``compute_objectives`` returned.
            should_step: whether the optimizers stepped after this batch.
        """

    @torch.no_grad()
    def evaluate_batch(self, batch: Any, stage: Stage) -> torch.Tensor:
        """Evaluate one batch.

        Returns:
            The batch's loss, detached, on the CPU.
        """
        with self.evaluation_ctx:
            outputs = self.compute_forward(batch, stage=stage)
            loss = self.compute_objectives(outputs, batch, stage=stage)
        require_scalar_loss(self, loss)
        detached: torch.Tensor = loss.detach().cpu()
        return detached

    def update_average(self, loss: torch.Tensor, avg_loss: float) -> float:
        """Return the running average of a stage with ``loss`` in it, if it is finite.

        ``self.step`` is the number of batches so far, this one included.
        """
        if torch.isfinite(loss):
            avg_loss -= avg_loss / self.step
            avg_loss += float(loss) / self.step
        return avg_loss

    @brain_default
    @contextmanager
    def no_sync(self, use: bool = True) -> Iterator[None]:
        """Keep DDP and FSDP2 from exchanging gradients, for batches that only accumulate.

        Args:
            use: False exchanges all the same.
        """
        with gradients_kept(self.modules, use):
            yield

    # -- fit and evaluate ----------------------------------------------------------------------

    def fit(
        self,
        epoch_counter: Iterable[int],
        train_set: Any = None,
        valid_set: Any = None,
        progressbar: bool | None = None,
        train_loader_kwargs: Mapping[str, Any] | None = None,
        valid_loader_kwargs: Mapping[str, Any] | None = None,
        *,
        ckpt_path: str | os.PathLike[str] | None = None,
        datamodule: Any = None,
    ) -> None:
        """Train for the epochs of a counter, validating after each.

        Order of calls: ``make_dataloader``, ``on_fit_start``; for each epoch
        ``on_stage_start(TRAIN)``, ``zero_grad``, for each batch ``fit_batch`` and
        ``update_average``, ``on_stage_end(TRAIN)``, and, with a validation set,
        ``on_stage_start(VALID)``, for each batch ``evaluate_batch`` and ``update_average``,
        ``on_stage_end(VALID)``. May be called again, and from within a hook.

        Args:
            epoch_counter: yields the number of each epoch: an EpochCounter, a range, ...
            train_set: a data set, or a loader.
            valid_set: a data set, a loader, or None.
            progressbar: whether to show one; None: unless ``noprogressbar``.
            train_loader_kwargs: for ``make_dataloader`` where ``train_set`` is a data set.
            valid_loader_kwargs: the same for ``valid_set``.
            ckpt_path: a Lightning checkpoint to go on from, as if the run that saved it had never
                been interrupted; "last" for the newest that a callback of the run has saved.
            datamodule: a LightningDataModule, in place of ``train_set`` and ``valid_set``.

        Raises:
            ValueError: the training set is empty, the checkpoint is none of a Brain's, or data
                comes from nowhere or from two sides.
            FileNotFoundError: there is no such checkpoint.
        """
        if self.test_only:
            logger.info("test_only: there is no training.")
            return
        _require_our_loop(self)
        checkpoint = checked_path(ckpt_path)
        if datamodule is not None:
            train_set, valid_set = loaders_of(datamodule, train_set, valid_set, self, checkpoint)
        elif train_set is None:
            raise ValueError("fit() has nothing to train on: give train_set, or datamodule.")
        else:
            train_set = self.__train_loader(train_set, train_loader_kwargs or {})
            valid_set = self.__valid_loader(valid_set, valid_loader_kwargs or {})
        require_batches(train_set)
        shows_bar = self.__shows_bar(progressbar)
        run_fit(self, epoch_counter, train_set, valid_set, shows_bar, checkpoint, datamodule)

    def __train_loader(self, train_set: Any, loader_kwargs: Mapping[str, Any]) -> Any:
        is_dataset = not is_loader(train_set)
        unsaved = partial(self.make_dataloader, train_set, Stage.TRAIN, ckpt_prefix=None)
        found = with_found_batch_size(self, unsaved, is_dataset, loader_kwargs)
        if not is_dataset:
            return train_set
        return self.make_dataloader(train_set, stage=Stage.TRAIN, **found)

    def __valid_loader(self, valid_set: Any, loader_kwargs: Mapping[str, Any]) -> Any:
        if valid_set is None or is_loader(valid_set):
            return valid_set
        return self.make_dataloader(valid_set, stage=Stage.VALID, ckpt_prefix=None, **loader_kwargs)

    @brain_default
    def _fit_valid(self, valid_set: Any, epoch: int | None, enable: bool) -> None:
        """Validate; recipes that validate in another way, or not always, override it.

        Args:
            valid_set: a loader, or None for no validation.
            epoch: the number from the epoch counter.
            enable: whether to show a progress bar.
        """
        if valid_set is not None:
            run_validation(self, valid_set, epoch, enable)

    def on_evaluate_start(self, max_key: str | None = None, min_key: str | None = None) -> None:
        """Called when ``evaluate`` begins: recovers the checkpoint to evaluate.

        Args:
            max_key: the checkpoint with the highest value of this key.
            min_key: the checkpoint with the lowest value of this key; without both, the newest.
        """
        if self.checkpointer is not None:
            self.checkpointer.recover_if_possible(max_key=max_key, min_key=min_key)

    def evaluate(
        self,
        test_set: Any,
        max_key: str | None = None,
        min_key: str | None = None,
        progressbar: bool | None = None,
        test_loader_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Test, by default with the best checkpoint.

        Order of calls: ``make_dataloader``, ``on_evaluate_start``, ``on_stage_start(TEST)``, for
        each batch ``evaluate_batch`` and ``update_average``, ``on_stage_end(TEST)``.

        Args:
            test_set: a data set, or a loader.
            max_key: for ``on_evaluate_start``.
            min_key: for ``on_evaluate_start``.
            progressbar: whether to show one; None: unless ``noprogressbar``.
            test_loader_kwargs: for ``make_dataloader`` where ``test_set`` is a data set. As in
                SpeechBrain, the dictionary itself gets ``ckpt_prefix=None``: recipes rely on it.

        Returns:
            The average loss.
        """
        if not is_loader(test_set):
            loader_kwargs = {} if test_loader_kwargs is None else test_loader_kwargs
            loader_kwargs["ckpt_prefix"] = None
            test_set = self.make_dataloader(test_set, Stage.TEST, **loader_kwargs)
        return run_evaluate(self, test_set, max_key, min_key, self.__shows_bar(progressbar))

    def log(self, name: str, value: Any, **options: Any) -> None:
        """Log a value to the Trainer's loggers and callbacks; call it from any hook.

        Args:
            name: of the value.
            value: a number, a tensor with one element, or a metric of torchmetrics.
            **options: as for ``LightningModule.log``.
        """
        connection_of(self).log(name, value, **options)

    def __shows_bar(self, progressbar: bool | None) -> bool:
        wanted = not self.noprogressbar if progressbar is None else progressbar
        return wanted and if_main_process()

    # -- limits and interval checkpoints -------------------------------------------------------

    @property
    def _optimizer_step_limit_exceeded(self) -> bool:
        return (
            self.optimizer_step_limit is not None
            and self.optimizer_step >= self.optimizer_step_limit
        )

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time: float, steps_since_ckpt: int) -> bool:
        """Whether an interval checkpoint is due; the main process decides for all.

        Args:
            last_ckpt_time: when the last one was saved, or the epoch began, in ``time.time()``.
            steps_since_ckpt: batches since then.
        """
        if self.checkpointer is None:
            return False
        if self.ckpt_interval_minutes <= 0 and self.ckpt_interval_steps <= 0:
            return False
        minutes = (time.time() - last_ckpt_time) / 60.0
        due = 0 < self.ckpt_interval_minutes < minutes
        due = due or 0 < self.ckpt_interval_steps <= steps_since_ckpt
        return main_process_decides(due)

    def _save_intra_epoch_ckpt(self) -> None:
        """Save the interval checkpoint; the one before it is deleted."""
        connection = connection_of(self)
        beside = connection.settings.async_checkpoint
        with rank_states_known(self, gradients=True):
            connection.interval_saver.save(self.checkpointer, beside)

    @property
    def _saves_only_counters(self) -> bool:
        return not is_overridden(self, "_save")

    @mark_as_saver
    @brain_default
    def _save(self, path: str | Path) -> None:
        connection = connection_of(self)
        connection.publish_meta(read_draft_meta(Path(path).parent))
        interrupted_at = connection.step_in_epoch
        step = self.step if interrupted_at is None else interrupted_at
        write_brain_state(path, step, self.avg_train_loss, self.optimizer_step)
        write_resume_file(path, capture_resume_state(self))

    @mark_as_loader
    def _recover(self, path: str | Path, end_of_epoch: bool) -> None:
        connection = connection_of(self)
        resume = read_resume_file(path)
        connection.resume = resume_from(resume, self.checkpointer, end_of_epoch)
        connection.resumes_nothing = connection.resume is None
        restore_uncounted_steps(self, resume)
        connection.written_by_callbacks = (resume or {}).get("callback_checkpoint")
        state = read_brain_state(path)
        self.step = state["step"]
        self.avg_train_loss = state["avg_train_loss"]
        self.optimizer_step = state["optimizer_step"]


def _require_our_loop(brain: Brain) -> None:
    if hasattr(type(brain), "_fit_train") or "_fit_train" in vars(brain):
        raise ValueError(
            f"{type(brain).__name__} defines _fit_train(), SpeechBrain's training loop. The loop "
            "is Lightning's here and would not call it: override fit_batch(), on_stage_start() "
            "and on_stage_end() instead."
        )
