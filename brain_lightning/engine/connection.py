"""What ties a Brain to the Lightning runs that are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from brain_lightning.engine.checkpoints.interval_checkpoint import IntervalSaver
from brain_lightning.engine.checkpoints.module_counters import ModuleCounters
from brain_lightning.engine.logs.published_metrics import publish
from brain_lightning.engine.processes.gradient_order import GradientOrder
from brain_lightning.engine.settings import EngineSettings
from brain_lightning.ground.ranks import ddp_broadcast

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from torch.nn.parallel import DistributedDataParallel

    from brain_lightning.engine.brain_module import BrainModule
    from brain_lightning.engine.checkpoints.resume import Resume
    from brain_lightning.engine.checkpoints.unsaved_progress import UnsavedProgress
    from brain_lightning.engine.checkpoints.unsaved_training import UnsavedTraining
    from brain_lightning.engine.logs.train_log_repeats import RepeatedLines
    from brain_lightning.engine.optimization.optimizer_hooks import OptimizerHooks
    from brain_lightning.engine.stages.fit_run import FitRun

ATTRIBUTE = "_brain_lightning"
"""The one attribute of a Brain that belongs to the engine."""

_NO_METRICS = frozenset({"unixtime", "end-of-epoch"})
"""Keys of every checkpoint's meta."""


class Connection:
    """Knows the settings, and which run is in progress: runs may be nested."""

    def __init__(self, settings: EngineSettings) -> None:
        """Begin without a run."""
        self.settings = settings
        self._modules: list[BrainModule] = []
        self._last_trainer: pl.Trainer | None = None
        self.interval_saver = IntervalSaver()
        self.resume: Resume | None = None
        """What the checkpoint that was recovered last has for an exact resume."""
        self.resumes_nothing = False
        """Whether the Brain has recovered in this fit, and there is nothing to resume."""

        self.repeated_lines: RepeatedLines | None = None
        """What the train logs have after the point from which the fit in progress goes on."""

        self.stage_is_ending = False
        """Whether ``on_stage_end(TRAIN)`` is in progress: what it logs belongs to the epoch."""
        self.epochs_done = 0
        """The ``trainer.current_epoch`` that the last fit came to."""
        self.trainer_objects: dict[str, Any] = {}
        """Loggers and profilers that were made from short names, for all runs of the Brain."""
        self.written_by_callbacks: dict[str, Any] | None = None
        """What callbacks have in the checkpoint that was recovered last."""
        self.module_counters: ModuleCounters | None = None
        """What the modules counted before the first fit, or None before it."""
        self.unsaved_progress: UnsavedProgress | None = None
        """How far objects were before the first fit that the recipe does not save, or None."""
        self.unsaved_training: UnsavedTraining | None = None
        """The same of weights, buffers and optimizers."""
        self.gradient_order: GradientOrder | None = None
        """In which order the first gradients came, or None before the first fit."""
        self.uncounted_steps = 0
        """Optimizer steps that the recipe did not count in its ``optimizer_step``."""
        self.whole_batch: DistributedDataParallel | None = None
        """What computes a batch's loss under DDP around everything."""
        self.stage_losses: dict[str, float] = {}
        """The last average of each stage, as ``train_loss``, ``valid_loss``, ``test_loss``."""
        self._meta: dict[str, Any] = {}
        self.held_logs: list[tuple[str, Any, dict[str, Any]]] | None = None
        """Takes what is logged in the batches of a shared evaluation, to be logged at its end."""

    def __getstate__(self) -> EngineSettings:
        """Copy and pickle the settings: a run belongs to the Brain that started it."""
        return self.settings

    def __setstate__(self, settings: EngineSettings) -> None:
        """Begin without a run."""
        Connection.__init__(self, settings)

    def enter(self, module: BrainModule) -> None:
        """Note that a Trainer begins to run ``module``."""
        self._modules = [known for known in self._modules if _is_running(known)]
        self._modules.append(module)
        self._last_trainer = module.trainer

    @property
    def module(self) -> BrainModule | None:
        """The module of the innermost run in progress."""
        while self._modules and not _is_running(self._modules[-1]):
            self._modules.pop()
        return self._modules[-1] if self._modules else None

    @property
    def fit_run(self) -> FitRun | None:
        """The innermost fit, or validation, in progress."""
        module = self.module
        return None if module is None else module.fit_run

    @property
    def step_in_epoch(self) -> int | None:
        """Training batches done in the epoch while a validation interrupts it, else None."""
        run = self.fit_run
        return None if run is None else run.validation.interrupted_at

    @property
    def decides_together(self) -> bool:
        """Whether a fit of several processes is in progress."""
        module = self.module
        return module is not None and module.trainer.training and module.trainer.world_size > 1

    @property
    def trainer(self) -> pl.Trainer | None:
        """The Trainer of the innermost run in progress, else of the last one."""
        module = self.module
        return self._last_trainer if module is None else module.trainer

    def backward(self, loss: torch.Tensor) -> None:
        """Go backward, through Lightning's strategy and hooks where a fit is in progress."""
        module = self.module
        if module is None or module.automatic_optimization or not module.trainer.training:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            module.manual_backward(loss)

    @property
    def optimizer_hooks(self) -> OptimizerHooks | None:
        """What announces the steps of the fit in progress, or None when nobody listens."""
        module = self.module
        return None if module is None else module.optimizer_hooks

    def publish_meta(self, meta: Mapping[str, Any]) -> None:
        """Let callbacks monitor what a checkpoint is saved with, such as ``WER``."""
        module = self.module
        if module is None or module.trainer.state.fn != "fit":
            return
        values = {name: value for name, value in meta.items() if name not in _NO_METRICS}
        self._meta.update(values)
        publish(module.trainer, values)

    def share_meta(self) -> None:
        """Tell all processes what the main process, which saves, has published."""
        meta, self._meta = self._meta, {}
        module = self.module
        if module is not None and module.trainer.world_size > 1:
            publish(module.trainer, ddp_broadcast(meta), to_loggers=False)

    def log(self, name: str, value: Any, **options: Any) -> None:
        """Log a value, as ``LightningModule.log`` does; ``batch_size`` is one unless given.

        Where Lightning takes no values yet (in ``on_fit_start``) they are published at once.

        Raises:
            RuntimeError: no run is in progress.
        """
        module = self.module
        if module is None:
            raise RuntimeError(
                f"log({name!r}) was called while nothing runs. Call it from a hook of the Brain "
                "during fit() or evaluate()."
            )
        if module.is_configuring:
            publish(module.trainer, {name: value})
            return
        if self.held_logs is not None and not isinstance(value, torch.nn.Module):
            self.held_logs.append((name, value, options))
            return
        if self.stage_is_ending:
            # Lightning is in the hook of the last batch here.
            options = {"on_step": False, "on_epoch": True, **options}
            publish(module.trainer, {name: value}, to_loggers=False)
        # A batch counts as one, as in the average loss; Lightning would guess a size.
        module.log(name, value, **{"batch_size": 1, **options})


def _is_running(module: BrainModule) -> bool:
    return bool(module.trainer.state.status == "running")


def connection_of(brain: Any) -> Connection:
    """Return the connection of a Brain; one whose ``__init__`` was skipped gets a plain one."""
    connection = vars(brain).get(ATTRIBUTE)
    if connection is None:
        connection = Connection(EngineSettings())
        setattr(brain, ATTRIBUTE, connection)
    assert isinstance(connection, Connection)
    return connection
