"""The LightningModule that is generated from a Brain."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelPruning
from torch.optim import Optimizer
from typing_extensions import override

from brain_lightning.engine.brain_governed_module import BrainGovernedModule
from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.checkpoints.lightning_checkpoint import KEY, load_recoverables
from brain_lightning.engine.checkpoints.module_checkpoint import ModuleCheckpoint
from brain_lightning.engine.checkpoints.recovery_choice import no_recovery
from brain_lightning.engine.checkpoints.sessions import count_fit
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.defaults import is_overridden
from brain_lightning.engine.lightning_internals import (
    StepCounter,
    accumulates,
    allow_spike_detection_to_load,
    follow_until_first_average,
    is_attached,
    is_last_evaluation_batch,
    save_by_time,
    set_current_epoch,
    set_logged_step,
)
from brain_lightning.engine.logs.published_metrics import named_loss, publish
from brain_lightning.engine.logs.train_log_forwarding import forward_train_logs
from brain_lightning.engine.optimization.averaged_weights import load_average
from brain_lightning.engine.optimization.backward_hooks import BackwardHooks
from brain_lightning.engine.optimization.finetuning import (
    finetuning_callbacks,
    groups_of,
    pass_over_epoch_start,
)
from brain_lightning.engine.optimization.learning_rate_search import pass_over_search
from brain_lightning.engine.optimization.optimization_steps import (
    AutomaticStep,
    ManualStep,
    OptimizationStep,
    step_outputs,
)
from brain_lightning.engine.optimization.optimizer_hooks import OptimizerHooks
from brain_lightning.engine.optimization.optimizers import (
    discover_optimizers,
    discover_schedulers,
    leave_out_frozen,
    set_learning_rate,
)
from brain_lightning.engine.optimization.uncounted_steps import steps_done
from brain_lightning.engine.sharded_evaluation.evaluation_memory import release_metrics
from brain_lightning.engine.stages.batch_delivery import BatchDelivery
from brain_lightning.engine.stages.batch_limits import limits_test
from brain_lightning.engine.stages.batch_tickets import NO_BATCH
from brain_lightning.engine.stages.evaluation_pass import EvaluationPass
from brain_lightning.engine.stages.evaluation_trials import EvaluationTrials
from brain_lightning.engine.stages.fit_run import FitRun
from brain_lightning.engine.stages.test_run import TestRun
from brain_lightning.engine.stages.users_fit_run import UsersFitRun
from brain_lightning.engine.trainer.optimization_choice import why_automatic_from, why_automatic_in
from brain_lightning.engine.trainer.quiet import ignore_warnings_about_the_module
from brain_lightning.engine.trainer.trainer_callbacks import (
    callbacks_of,
    may_save_in_steps,
    require_packages,
)
from brain_lightning.parts.checkpoints.pruned_modules import prune_when_loading
from brain_lightning.parts.data.recovered_loaders import loaders_wait
from brain_lightning.parts.recipe_rules.optimization_rules import reason_for_automatic


class BrainModule(BrainGovernedModule):
    """A Brain as a LightningModule, usable with any ``lightning.Trainer``.

    ``Brain.fit()`` and ``Brain.evaluate()`` make one for every call. With a Trainer of your own::

        lightning.Trainer(max_epochs=3).fit(BrainModule(brain), train_loader, valid_loader)

    the Trainer counts the epochs and iterates the loaders, and the Brain's hooks run all the same.

    The Brain is held, not registered: its ``modules`` are the only submodule. Brain decides about
    train and eval mode, about devices and about gradients; the hooks by which Lightning would do
    so are overridden to do nothing.

    Order of the Brain's methods in a fit: ``on_fit_start`` (in ``configure_optimizers``); for each
    epoch ``on_stage_start(TRAIN)``, ``fit_batch`` for each batch, ``on_stage_end(TRAIN)``,
    ``on_stage_start(VALID)``, ``evaluate_batch`` for each batch, ``on_stage_end(VALID)``. In a
    test: ``on_evaluate_start``, ``on_stage_start(TEST)``, ``evaluate_batch``,
    ``on_stage_end(TEST)``.
    """

    _SHARED_BY_COPIES = frozenset(
        {
            "brain",
            "_fit_run",
            "_test_run",
            "_step",
            "_steps",
            "_checkpoint",
            "_delivery",
            "optimizer_hooks",
            "backward_hooks",
            "_after_fit_start",
            "_train_logs",
            "_after_epoch_start",
            "_shown_optimizers",
        }
    )

    def __init__(
        self,
        brain: BrainProtocol,
        *,
        fit_run: FitRun | None = None,
        test_run: TestRun | None = None,
    ) -> None:
        """Generate the module of ``brain``.

        Args:
            brain: the recipe.
            fit_run: what ``Brain.fit()`` knows; None in a Trainer of the user's.
            test_run: what ``Brain.evaluate()`` knows; None in a Trainer of the user's.

        Raises:
            ValueError: automatic optimization was asked for and the recipe does not allow it.
        """
        super().__init__()
        ignore_warnings_about_the_module()
        settings = connection_of(brain).settings
        self.brain = brain
        self._fit_run = fit_run
        self._test_run = test_run
        self._fit_has_started = False
        self._steps: StepCounter | None = None
        self._checkpoint = ModuleCheckpoint(self, brain)
        self._delivery = BatchDelivery(self, self._next_batch, settings.move_batch)
        self._suggested_lr: float | None = None
        self._is_in_users_trainer = fit_run is None and test_run is None
        self._train_logs = ExitStack()
        self._after_fit_start: list[Callable[[], None]] = []
        """What is left to be done when callbacks have heard ``on_fit_start``, once."""
        self._after_epoch_start: Callable[[], None] = _nothing
        """The same of ``on_train_epoch_start``."""
        self.is_configuring = False
        """Whether Lightning takes no values to be logged yet."""
        self._shown_optimizers: list[Optimizer] | None = None
        """What callbacks saw last, or None before training."""
        self.optimizer_hooks: OptimizerHooks | None = None
        """What announces the optimizers' steps to callbacks, or None when nobody listens."""
        self.backward_hooks: BackwardHooks | None = None
        self.brain_modules = brain.modules
        self._choose_optimization(settings.optimization, why_automatic_from(settings.trainer))

    _step: OptimizationStep

    # -- set-up --------------------------------------------------------------------------------

    def _choose_optimization(self, asked: str | None, needed: str | None) -> None:
        reason = reason_for_automatic(asked, needed)
        self.automatic_optimization = reason is not None
        self._step = ManualStep(self.brain) if reason is None else AutomaticStep(self.brain, reason)

    @override
    def configure_callbacks(self) -> list[Any]:
        """Add none; Lightning asks before it checks how the optimizer is stepped."""
        if self._is_in_users_trainer and not self.automatic_optimization:
            reason = why_automatic_in(self.trainer)
            self._choose_optimization(connection_of(self.brain).settings.optimization, reason)
        return []

    @override
    def setup(self, stage: str) -> None:
        """Make the run that a Trainer of the user's did not bring."""
        self._running = False
        self._fit_has_started = False
        self._trials = EvaluationTrials()
        self._steps = None
        self._accumulation = self.trainer.accumulate_grad_batches
        self._shown_optimizers = None
        self._checkpoint.take()  # what a run before this one was given and did not need
        self._after_epoch_start()
        self._after_fit_start, self._after_epoch_start = [], _nothing
        connection_of(self.brain).enter(self)
        allow_spike_detection_to_load(self.trainer)
        require_packages(self.trainer)
        if any(isinstance(each, ModelPruning) for each in callbacks_of(self.trainer)):
            prune_when_loading(self.brain.modules)  # SpeechBrain's Checkpointer knows nothing of it
        if self._is_in_users_trainer:
            self._train_logs.close()
            self._train_logs = forward_train_logs(self.brain)
        if stage in ("fit", "validate") and self._fit_run is None:
            self._fit_run = UsersFitRun(self.brain)
        if stage == "predict" and not hasattr(self.brain, "predict_batch"):
            raise TypeError(
                f"{type(self.brain).__name__} does not define predict_batch(batch), which "
                "predicting needs. Define it: it returns the predictions for one batch."
            )
        if stage in ("test", "predict") and self._test_run is None:
            self._test_run = TestRun(self.brain)

    @override
    def teardown(self, stage: str) -> None:
        """Let go of the recipe's train loggers."""
        self._train_logs.close()

    @override
    def configure_optimizers(self) -> Any:
        """Call ``on_fit_start``: compile, wrap, create optimizers, recover."""
        connection = connection_of(self.brain)
        # Only what this fit recovers counts.
        connection.resume, connection.resumes_nothing = None, False
        if not self._run.is_inner:
            count_fit(self.brain.checkpointer)
        saved = self._checkpoint.take()
        if saved is not None:
            self._checkpoint.keep_weights()
        self.is_configuring = True
        try:
            if saved is None:
                with loaders_wait() as loaders:
                    self.brain.on_fit_start()
                # A checkpoint may have loaders and not the Brain: a recipe's own Checkpointer.
                loaders.go_on(exactly=not connection.resumes_nothing)
            else:
                with no_recovery(self.brain.checkpointer):
                    self.brain.on_fit_start()
        finally:
            self.is_configuring = False
        self.brain_modules = self.brain.modules
        if saved is not None:
            self._checkpoint.go_on(saved, self._run)
        optimizers = discover_optimizers(self.brain)
        self._prepare_optimizers(optimizers)
        self._steps = StepCounter(self.trainer, self.automatic_optimization)
        self._run.start(self.trainer, self._step_counter)
        if self.automatic_optimization:
            return optimizers
        return optimizers, discover_schedulers(self.brain, optimizers)

    def _prepare_optimizers(self, optimizers: list[Optimizer]) -> None:
        if isinstance(self._step, AutomaticStep):
            self._step.require_one_optimizer()
        else:
            hooks = OptimizerHooks(self.trainer, self, BrainModule)
            self.optimizer_hooks = hooks if hooks.are_heard else None
            self.backward_hooks = BackwardHooks(self.trainer, self, BrainModule)
        if connection_of(self.brain).resume is not None:
            self._after_fit_start.append(pass_over_search(self.trainer, self))
        if finetuning_callbacks(self.trainer):
            leave_out_frozen(optimizers)
            self._go_on_finetuning(optimizers)
        if self._suggested_lr is not None:
            set_learning_rate(optimizers, self._suggested_lr)

    def _go_on_finetuning(self, optimizers: list[Optimizer]) -> None:
        resume = connection_of(self.brain).resume
        if resume is None:
            return
        self._after_fit_start.append(groups_of(optimizers))
        if resume.is_in_epoch:
            self._after_epoch_start = pass_over_epoch_start(self.trainer, self)

    @property
    def lr(self) -> float | None:
        """The learning rate of the first optimizer; ``LearningRateFinder`` sets it for all."""
        if self._suggested_lr is not None and not self._fit_has_started:
            return self._suggested_lr  # Lightning 2.5 then puts the optimizers' old one back
        for optimizer in discover_optimizers(self.brain):
            return float(optimizer.param_groups[0]["lr"])
        return None

    @lr.setter
    def lr(self, value: float) -> None:
        self._suggested_lr = value
        set_learning_rate(discover_optimizers(self.brain), value)

    @property
    def fit_run(self) -> FitRun | None:
        """The fit in progress, or the validation; None in a test."""
        return self._fit_run

    @property
    def _run(self) -> FitRun:
        assert self._fit_run is not None
        return self._fit_run

    @property
    def _step_counter(self) -> StepCounter:
        assert self._steps is not None
        return self._steps

    # -- training ------------------------------------------------------------------------------

    @override
    def on_fit_start(self) -> None:
        """Note that what is trained from now on counts.

        Callbacks that try out a learning rate or a batch size train before this is called.
        """
        self._fit_has_started = True
        self._shown_optimizers = list(self.trainer.optimizers)
        acts, self._after_fit_start = self._after_fit_start, []
        for act in acts:
            act()
        self._run.before_loaders()

    @override
    def on_train_start(self) -> None:
        """See whether the epoch counter has an epoch at all."""
        self._running = True
        self._run.is_trial = not self._fit_has_started
        self._run.keeps_states_before_steps = may_save_in_steps(callbacks_of(self.trainer))
        self._see_accumulation()
        self._run.begin_training(self.trainer)

    @override
    def on_train_epoch_start(self) -> None:
        """Open the TRAIN stage of the next epoch."""
        act, self._after_epoch_start = self._after_epoch_start, _nothing
        act()
        self._see_accumulation()
        self._run.open_epoch(self.trainer)
        self._see_optimizers()

    def _see_accumulation(self) -> None:
        if isinstance(self._step, AutomaticStep):
            self._step.grad_accumulation_factor = self.trainer.accumulate_grad_batches
            # DeepSpeed's engine divides what Lightning 2.6 has divided.
            self._step.is_divided_again = self.trainer.strategy.handles_gradient_accumulation
        elif self.trainer.accumulate_grad_batches != self._accumulation:
            self._run.accumulate(self.trainer.accumulate_grad_batches)
        self._accumulation = self.trainer.accumulate_grad_batches

    def _see_optimizers(self) -> None:
        """Let callbacks see the optimizers that there are now: recipes exchange them."""
        optimizers = discover_optimizers(self.brain)
        known = self.trainer.optimizers
        if not _are_the_same(known, optimizers):
            self._require_no_others(known)
            self.trainer.optimizers = optimizers
        self._shown_optimizers = list(self.trainer.optimizers)
        if self.optimizer_hooks is not None:
            self.optimizer_hooks.attach(optimizers)

    def _require_no_others(self, known: list[Optimizer]) -> None:
        """Refuse a callback's optimizers: nothing would step them.

        Raises:
            ValueError: says where a callback can put them.
        """
        if self._shown_optimizers is not None and not _are_the_same(known, self._shown_optimizers):
            kinds = [type(each).__name__ for each in known]
            raise ValueError(
                f"A callback has set trainer.optimizers to {kinds}, but the Brain steps its own. "
                "Let the callback put them into pl_module.brain.optimizers_dict, or change those "
                "that are there."
            )

    @override
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Open the TRAIN stage where a Trainer of the user's resumes in the middle of an epoch."""
        run = self._run
        if not run.training.is_open:
            run.open_epoch(self.trainer)
        if self.trainer.accumulate_grad_batches != self._accumulation:
            self._see_accumulation()
        if not run.is_trial:
            run.learning_rates.before_batch(self.trainer)

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Run ``fit_batch``, or its first half in automatic optimization."""
        brain = self.brain
        self._run.begin_batch(self.trainer)
        brain.step += 1
        with self._noticing_backward():
            outputs = self._step.run(None if batch is NO_BATCH else batch)
        if not self.automatic_optimization:
            self._count_batch()
        return outputs

    def _noticing_backward(self) -> AbstractContextManager[Any]:
        hooks = self.backward_hooks
        if hooks is None or not is_overridden(self.brain, "fit_batch"):
            return nullcontext()
        return hooks.noticed()

    @override
    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Go backward; Lightning calls the hooks around it."""
        hooks = self.backward_hooks
        with nullcontext() if hooks is None else hooks.left_to_lightning():
            super().backward(loss, *args, **kwargs)

    def _count_batch(self) -> None:
        self._run.count_batch(self._step.finish())
        self._step_counter.set(steps_done(self.brain))

    @override
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save, look whether the epoch ends here, and close its TRAIN stage if so.

        Lightning calls the module's hook after those of all callbacks.
        """
        if not isinstance(self._step, AutomaticStep):
            save_by_time(self.trainer)
        elif self._step.is_pending:
            # StochasticWeightAveraging has an epoch without backward, for batch norms.
            self._run.count_batch(self._step.finish())
        self._run.after_batch(self.trainer)

    @override
    def on_train_epoch_end(self) -> None:
        """Decide whether another epoch follows."""
        run = self._run
        run.end_epoch(self.trainer)
        follow_until_first_average(self.trainer, self)
        if not run.is_trial:
            self._log_losses(named_loss("train_loss", run.average), to_logger=False)

    @override
    def on_train_end(self) -> None:
        """Take hooks off the optimizers, and give the Brain its accumulation back."""
        self._run.accumulate(None)
        if self.optimizer_hooks is not None:
            self.optimizer_hooks.detach()

    def _log_losses(self, losses: dict[str, float], to_logger: bool = True) -> None:
        if self.trainer.barebones or self.trainer.sanity_checking:
            return
        exact = torch.float32 if self.device.type == "mps" else torch.float64  # as the recipe's own
        for name, number in losses.items():
            value = torch.tensor(number, dtype=exact, device=self.device)
            self.log(name, value, prog_bar=True, logger=None if to_logger else False, batch_size=1)

    # -- automatic optimization ----------------------------------------------------------------

    @override
    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        """Step as ``optimizers_step`` does; what is left over at an epoch's end is not stepped."""
        step, brain = self._step, self.brain
        assert isinstance(step, AutomaticStep)
        steps = step.will_step()
        # DeepSpeed is told of each batch, and knows itself when it steps.
        if steps or self.trainer.strategy.handles_gradient_accumulation:
            optimizer.step(closure=optimizer_closure)
        else:
            optimizer_closure()
        if steps:
            optimizer.zero_grad(set_to_none=True)
            brain.optimizer_step += 1
        self._run.count_batch(step.finish())
        self._step_counter.set_inside_step(brain.optimizer_step)

    @override
    def on_after_backward(self) -> None:
        """End the batch here where its gradients only accumulate: no step will follow."""
        follows = self.trainer.strategy.handles_gradient_accumulation
        if self.automatic_optimization and self._accumulates() and not follows:
            self._run.count_batch(self._step.finish())

    def _accumulates(self) -> bool:
        return accumulates(self.trainer)

    @override
    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip and check as ``optimizers_step`` does."""
        assert isinstance(self._step, AutomaticStep)
        if gradient_clip_val is not None:  # a Trainer of the user's rules
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            self._step.clip(optimizer)

    # -- validation ----------------------------------------------------------------------------

    @override
    def on_validation_start(self) -> None:
        """See that validation is not run on an average of nothing."""
        self._trials.start()
        follow_until_first_average(self.trainer, self)
        if self.trainer.state.fn == "validate":
            self._run.is_trial = self._trials.is_trial
            self._take_recoverables()

    @override
    def on_validation_epoch_start(self) -> None:
        """Open the VALID stage."""
        self._running = True
        self._run.open_validation(self.trainer)

    @override
    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """Run ``evaluate_batch``."""
        outputs = step_outputs(self._evaluation.step(batch))
        self._run.after_validation_batch(self.trainer)
        if is_last_evaluation_batch(self.trainer):
            self._publish_average()
        return outputs

    def _publish_average(self) -> None:
        """Let callbacks see the stage's loss: they hear of its end before this module does."""
        run = self._fit_run
        is_trial = self._trials.is_trial or (run is not None and run.is_trial)
        if not (is_trial or self.trainer.sanity_checking):
            publish(self.trainer, self._evaluation.losses_so_far, to_loggers=False)

    @override
    def on_validation_epoch_end(self) -> None:
        """Close the VALID stage."""
        average = self._run.close_validation(self.trainer)
        self._log_losses(named_loss("valid_loss", average))

    @override
    def on_validation_end(self) -> None:
        """Let metrics exchange their states again, now that Lightning has read them."""
        release_metrics(self.brain)

    # -- test ----------------------------------------------------------------------------------

    @override
    def on_test_start(self) -> None:
        """Call ``on_evaluate_start``, unless the Trainer was given a checkpoint to load."""
        self._running = True
        assert self._test_run is not None
        self._trials.start()
        self._recover_for_evaluation()
        set_logged_step(self.trainer, steps_done(self.brain))
        if self._test_run.tickets is not None:
            set_current_epoch(self.trainer, connection_of(self.brain).epochs_done)

    def _recover_for_evaluation(self) -> None:
        assert self._test_run is not None
        if self._trials.is_trial:
            return
        connection = connection_of(self.brain)
        connection.written_by_callbacks = None
        self._test_run.start(recover=self.trainer.ckpt_path is None)
        load_average(self, self.brain.modules, connection.written_by_callbacks)
        self._take_recoverables()

    def _take_recoverables(self) -> None:
        """Load what else there is in a checkpoint whose weights Lightning has loaded."""
        saved = None if self._trials.is_trial else self._checkpoint.take()
        if saved is not None:
            load_recoverables(saved, self.brain, end_of_epoch=True)

    @override
    def on_test_epoch_start(self) -> None:
        """Open the TEST stage."""
        assert self._test_run is not None
        self._test_run.evaluation.open(limited=limits_test(self.trainer))

    @override
    def test_step(self, batch: Any, batch_idx: int) -> Any:
        """Run ``evaluate_batch``."""
        outputs = step_outputs(self._evaluation.step(batch))
        if is_last_evaluation_batch(self.trainer):
            self._publish_average()
        return outputs

    @override
    def on_test_epoch_end(self) -> None:
        """Close the TEST stage."""
        assert self._test_run is not None
        if self._trials.is_trial:
            self._test_run.evaluation.abandon()
            return
        self._test_run.finish(limited=limits_test(self.trainer))
        self._log_losses(named_loss("test_loss", self._test_run.average))

    @override
    def on_test_end(self) -> None:
        """Let metrics exchange their states again, now that Lightning has read them."""
        release_metrics(self.brain)

    # -- prediction ----------------------------------------------------------------------------

    @override
    def on_predict_start(self) -> None:
        """Recover as for a test."""
        self._trials.start()
        self._recover_for_evaluation()

    @override
    def on_predict_epoch_start(self) -> None:
        """Switch the modules to evaluation."""
        self.brain.modules.eval()

    @override
    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        """Call ``predict_batch`` of the recipe."""
        with self.brain.evaluation_ctx:
            return getattr(self.brain, "predict_batch")(batch)  # noqa: B009 -- recipes may lack it

    # -- Lightning's checkpoints ---------------------------------------------------------------

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add everything that the Brain's checkpointer would save."""
        self._checkpoint.write(checkpoint, self._fit_run)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Bring names up to date and keep what is to be loaded once the recipe is set up.

        Raises:
            ValueError: the checkpoint was not saved from a Brain, or has its weights only.
        """
        if not is_attached(self):  # BrainModule.load_from_checkpoint(path, brain=brain)
            self._checkpoint.read_weights(checkpoint)
            if KEY in checkpoint:
                load_recoverables(checkpoint[KEY], self.brain, end_of_epoch=True)
            return
        if self._trials.may_come:  # a callback takes back what it tried an evaluation with
            self._checkpoint.read_weights(checkpoint)
            return
        resumes = self.trainer.state.fn == "fit" and not self._is_in_users_trainer
        loads_late = self.trainer.strategy.restore_checkpoint_after_setup
        if resumes and loads_late and self.trainer.ckpt_path is not None:
            raise ValueError(
                f"Brain.fit() cannot go on from {self.trainer.ckpt_path} with "
                f"{type(self.trainer.strategy).__name__}, which loads a checkpoint after the "
                "recipe's set-up. Leave out ckpt_path; a Trainer of your own, "
                "Trainer.fit(BrainModule(brain), ..., ckpt_path=...), can."
            )
        self._checkpoint.read(checkpoint, self._fit_run, resumes)
        if self._steps is None:
            return
        saved = self._checkpoint.take()
        if saved is not None:  # a callback takes back what it trained to try something out
            self._checkpoint.take_back(saved, self._steps)

    # -- what callbacks look for ---------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        """Find an entry of ``modules`` by its name, as callbacks expect: ``module.backbone``."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            modules = self.__dict__.get("_modules", {}).get("brain_modules")
            if modules is not None and name in modules:
                return modules[name]
            if name == "flops_per_batch":  # ThroughputMonitor's
                return getattr(self.brain, name)
            if modules is None:
                raise
            raise AttributeError(
                f"{type(self.__dict__['brain']).__name__} has no entry {name!r} in its modules "
                f"(there are {', '.join(modules)}), and BrainModule no attribute of that name. A "
                "callback asked for it: rename the entry of modules, or leave the callback out."
            ) from None

    @property
    def _evaluation(self) -> EvaluationPass:
        if self._test_run is not None and self.trainer.testing:
            return self._test_run.evaluation
        validation = self._run.validation.stage
        assert validation is not None
        return validation

    # -- batches -------------------------------------------------------------------------------

    @override
    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Fetch the batch behind a ticket; move it only where ``move_batch`` asks for it.

        Raises:
            StopIteration: the loader has no more; Lightning ends the stage.
        """
        datamodule = None if self._fit_run is None else self._fit_run.datamodule
        if self._steps is not None and self.trainer.training:
            self._steps.before_batch()
        return self._delivery.deliver(batch, device, dataloader_idx, datamodule)

    def _next_batch(self) -> Any:
        if self.trainer.training:
            return self._run.next_batch(self.trainer)
        try:
            return self._evaluation.next_batch()
        except StopIteration:  # a loader that does not know its length
            self._publish_average()
            raise


def _are_the_same(some: list[Optimizer], others: list[Optimizer]) -> bool:
    return [id(each) for each in some] == [id(each) for each in others]


def _nothing() -> None:
    """Do nothing."""
