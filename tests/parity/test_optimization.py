"""Who steps what and when: accumulation, clipping, several optimizers, schedules, bad losses."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch.nn.functional import mse_loss, softplus

from .scenario import Run, parity
from .small_recipes import (
    HIDDEN,
    INPUTS,
    OUTPUTS,
    Points,
    Recipe,
    Regression,
    adam,
    modules,
    network,
    sgd,
)

SHUFFLED = {"batch_size": 4, "shuffle": True}


def train(run: Run, brain: Any, epochs: int = 2, size: int = 14) -> None:
    counter = run.library.EpochCounter(epochs)
    brain.fit(counter, Points(size), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity(mixed=True)
def test_accumulation_with_a_remainder(run: Run) -> None:
    """Four batches an epoch, a step every three: one batch's gradients are dropped."""
    brain = run.brain(Regression, modules(), sgd, run_opts={"grad_accumulation_factor": 3})
    train(run, brain)


@parity()
def test_accumulation_longer_than_an_epoch(run: Run) -> None:
    brain = run.brain(Regression, modules(), sgd, run_opts={"grad_accumulation_factor": 9})
    train(run, brain)


@parity()
def test_clipping_that_bites(run: Run) -> None:
    brain = run.brain(Regression, modules(), sgd, run_opts={"max_grad_norm": 0.05})
    train(run, brain)


@parity()
def test_clipping_of_the_first_group_only(run: Run) -> None:
    class Grouped(Regression):
        def init_optimizers(self) -> None:
            first, *_, last = self.modules.model
            groups = [{"params": first.parameters()}, {"params": last.parameters(), "lr": 0.02}]
            self.optimizer = self.opt_class(groups)
            self.optimizers_dict = {"grouped": self.optimizer}

    brain = run.brain(Grouped, modules(), sgd, run_opts={"max_grad_norm": 0.05})
    train(run, brain)


@parity()
def test_no_clipping(run: Run) -> None:
    """A norm of zero: SpeechBrain clips to it, and to a negative one as well."""
    brain = run.brain(Regression, modules(), sgd, run_opts={"max_grad_norm": -1.0})
    train(run, brain)


@parity()
def test_vector_weight_decay(run: Run) -> None:
    decaying = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.5)
    brain = run.brain(
        Regression, modules(), decaying, run_opts={"remove_vector_weight_decay": True}
    )
    train(run, brain)
    run.note("groups", count=[len(group["params"]) for group in brain.optimizer.param_groups])


class TwoOptimizers(Recipe):
    def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
        return self.modules.decoder(self.modules.encoder(batch[0]))

    def compute_objectives(self, predictions: torch.Tensor, batch: Any, stage: Any) -> torch.Tensor:
        return mse_loss(predictions, batch[1])

    def init_optimizers(self) -> None:
        self.encoder_optimizer = adam(self.modules.encoder.parameters())
        self.decoder_optimizer = sgd(self.modules.decoder.parameters())
        self.optimizers_dict = {
            "encoder": self.encoder_optimizer,
            "decoder": self.decoder_optimizer,
        }
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("encoder_opt", self.encoder_optimizer)

    def freeze_optimizers(self, optimizers: Any) -> Any:
        if self.optimizer_step < 3:
            return {"decoder": optimizers["decoder"]}
        return optimizers


def two_modules() -> dict[str, torch.nn.Module]:
    encoder = torch.nn.Sequential(torch.nn.Linear(INPUTS, HIDDEN), torch.nn.Dropout(0.2))
    return {"encoder": encoder, "decoder": torch.nn.Linear(HIDDEN, OUTPUTS)}


@parity(mixed=True)
def test_two_optimizers_frozen_by_step(run: Run) -> None:
    options = {"grad_accumulation_factor": 2, "max_grad_norm": 0.1}
    train(run, run.brain(TwoOptimizers, two_modules(), run_opts=options), epochs=3)


@parity()
def test_all_optimizers_frozen(run: Run) -> None:
    class Frozen(TwoOptimizers):
        def freeze_optimizers(self, optimizers: Any) -> Any:
            return {}

    train(run, run.brain(Frozen, two_modules()))


@parity()
def test_optimizer_without_a_dict(run: Run) -> None:
    """An older recipe: init_optimizers sets self.optimizer and nothing else."""

    class Older(Regression):
        def init_optimizers(self) -> None:
            self.optimizer = self.opt_class(self.modules.parameters())

    train(run, run.brain(Older, modules(), adam, run_opts={"grad_accumulation_factor": 2}))


@parity()
def test_optimizer_that_brain_never_sees(run: Run) -> None:
    class Hidden(Regression):
        def init_optimizers(self) -> None:
            pass

        def fit_batch(self, batch: Any) -> torch.Tensor:
            loss = self.compute_objectives(
                self.compute_forward(batch, run.library.Stage.TRAIN), batch, None
            )
            loss.backward()
            hidden.step()
            hidden.zero_grad()
            return loss.detach()

    model = modules()
    hidden = adam(model["model"].parameters())
    train(run, run.brain(Hidden, model))


@parity()
def test_optimizers_replaced_while_running(run: Run) -> None:
    """Deleted and made anew at a stage's start; optimizers_dict keeps the old one at first."""

    class Replacing(Regression):
        def on_stage_start(self, stage: Any, epoch: Any = None) -> None:
            if stage != run.library.Stage.TRAIN:
                return
            if epoch == 2:
                del self.optimizer
                self.optimizer = torch.optim.SGD(self.modules.parameters(), lr=0.5)
            if epoch == 3:
                self.optimizers_dict = {"new": self.optimizer}

    train(run, run.brain(Replacing, modules(), adam), epochs=3)


@parity()
def test_optimizer_replaced_in_a_batch(run: Run) -> None:
    class Replacing(Regression):
        def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Any, should_step: bool) -> None:
            if self.optimizer_step == 3:
                self.optimizer = torch.optim.SGD(self.modules.parameters(), lr=0.5)
                self.optimizers_dict = {"opt_class": self.optimizer}

    train(run, run.brain(Replacing, modules(), adam))


class Adversarial(Recipe):
    """Two updates a batch, the discriminator first; returns the detached sum."""

    def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
        return self.modules.generator(batch[0])

    def compute_objectives(self, predictions: torch.Tensor, batch: Any, stage: Any) -> Any:
        judge = self.modules.discriminator
        real, fake = judge(batch[1]), judge(predictions.detach())
        return {
            "D": softplus(-real).mean() + softplus(fake).mean(),
            "G": softplus(-judge(predictions)).mean() + mse_loss(predictions, batch[1]),
        }

    def init_optimizers(self) -> None:
        self.optimizer_g = adam(self.modules.generator.parameters())
        self.optimizer_d = adam(self.modules.discriminator.parameters())
        self.optimizers_dict = {"g": self.optimizer_g, "d": self.optimizer_d}

    def fit_batch(self, batch: Any) -> torch.Tensor:
        stage = run_stage(self).TRAIN
        outputs = self.compute_forward(batch, stage)
        losses = self.compute_objectives(outputs, batch, stage)
        self.optimizer_d.zero_grad()
        losses["D"].backward()
        self.optimizer_d.step()
        losses = self.compute_objectives(outputs, batch, stage)
        self.optimizer_g.zero_grad()
        losses["G"].backward()
        self.optimizer_g.step()
        return losses["D"].detach() + losses["G"].detach()

    def evaluate_batch(self, batch: Any, stage: Any) -> torch.Tensor:
        outputs = self.compute_forward(batch, stage)
        losses = self.compute_objectives(outputs, batch, stage)
        return losses["G"].detach().cpu()


def run_stage(brain: Recipe) -> Any:
    return brain.run.library.Stage


def adversaries() -> dict[str, torch.nn.Module]:
    return {"generator": network(), "discriminator": torch.nn.Linear(OUTPUTS, 1)}


@parity(mixed=True)
def test_gan(run: Run) -> None:
    train(run, run.brain(Adversarial, adversaries()))


# torch warns when the average turns a loss with a graph into a number.
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning")
@parity()
def test_three_updates_with_a_kept_graph(run: Run) -> None:
    """Like SEGAN: one graph serves several backward calls; the loss returned still has its own."""

    class Thrice(Adversarial):
        def fit_batch(self, batch: Any) -> torch.Tensor:
            outputs = self.compute_forward(batch, run.library.Stage.TRAIN)
            judge = self.modules.discriminator
            for judged, sign in ((batch[1], -1), (outputs, 1)):
                softplus(sign * judge(judged)).mean().backward(retain_graph=True)
                torch.nn.utils.clip_grad_norm_(self.modules.parameters(), self.max_grad_norm)
                self.optimizer_d.step()
                self.optimizer_d.zero_grad()
            loss = self.compute_objectives(outputs, batch, run.library.Stage.TRAIN)["G"]
            loss.backward(retain_graph=True)
            self.optimizer_g.step()
            self.optimizer_g.zero_grad()
            return loss

    train(run, run.brain(Thrice, adversaries(), run_opts={"max_grad_norm": 0.2}))


@parity(mixed=True)
def test_recipe_that_owns_everything(run: Run) -> None:
    """Like separation recipes: scaler, unscale, clipping of all, and a limit on the loss."""

    class Owning(Regression):
        def fit_batch(self, batch: Any) -> torch.Tensor:
            with self.training_ctx:
                outputs = self.compute_forward(batch, run.library.Stage.TRAIN)
                loss = self.compute_objectives(outputs, batch, run.library.Stage.TRAIN)
            if loss.item() < self.hparams.loss_upper_limit:
                self.scaler.scale(loss).backward()
                self.scaler.unscale_(self.optimizer)
                torch.nn.utils.clip_grad_norm_(self.modules.parameters(), self.max_grad_norm)
                self.scaler.step(self.optimizer)
                self.scaler.update()
            else:
                self.nonfinite_count += 1
                run.note("skipped", loss=loss)
                loss.data = torch.tensor(0.0)
            self.optimizer.zero_grad()
            return loss.detach().cpu()

    options = {"precision": "bf16", "max_grad_norm": 0.3, "nonfinite_patience": 1}
    brain = run.brain(Owning, modules(), adam, {"loss_upper_limit": 1.1}, options)
    train(run, brain, epochs=3)


@parity()
def test_fit_batch_around_super(run: Run) -> None:
    class Wrapping(Regression):
        def fit_batch(self, batch: Any) -> Any:
            before = self.optimizer_step
            loss = super().fit_batch([batch[0] * 2, batch[1]])  # type: ignore[misc]
            run.note("stepped", stepped=self.optimizer_step - before)
            return loss * 2

        def optimizers_step(self) -> None:
            super().optimizers_step()  # type: ignore[misc]
            run.note("after the step", step=self.step)

        def zero_grad(self, set_to_none: bool = False) -> None:
            super().zero_grad(set_to_none)  # type: ignore[misc]

    train(run, run.brain(Wrapping, modules(), sgd, run_opts={"grad_accumulation_factor": 2}))


@parity()
def test_several_optimizers_and_no_sync(run: Run) -> None:
    """Like the diffusion recipe: no_sync around each backward, the rate stepped inside."""

    class Several(TwoOptimizers):
        def fit_batch(self, batch: Any) -> torch.Tensor:
            should_step = self.step % self.grad_accumulation_factor == 0
            self.on_fit_batch_start(batch, should_step)
            with self.no_sync(not should_step):
                with self.training_ctx:
                    outputs = self.compute_forward(batch, run.library.Stage.TRAIN)
                    loss = self.compute_objectives(outputs, batch, run.library.Stage.TRAIN)
                scaled = self.scaler.scale(loss / self.grad_accumulation_factor)
                self.check_loss_isfinite(scaled)
                scaled.backward(retain_graph=True)
            with self.no_sync():
                (outputs**2).mean().backward()
            if should_step:
                self.optimizers_step()
                for group in self.encoder_optimizer.param_groups:
                    group["lr"] *= 0.9
            self.on_fit_batch_end(batch, outputs, loss, should_step)
            return loss.detach()

    train(run, run.brain(Several, two_modules(), run_opts={"grad_accumulation_factor": 2}))


class SometimesNotFinite(Regression):
    def compute_objectives(self, predictions: torch.Tensor, batch: Any, stage: Any) -> torch.Tensor:
        loss = super().compute_objectives(predictions, batch, stage)
        self.calls = getattr(self, "calls", 0) + 1
        if self.hparams.gradients_stay_finite:
            return loss + self.hparams.bad.get(self.calls, 0.0)
        return loss * self.hparams.bad.get(self.calls, 1.0)


NOT_FINITE = {2: float("inf"), 3: float("nan"), 7: float("nan")}
ADDED = {"gradients_stay_finite": True, "bad": NOT_FINITE}
MULTIPLIED = {"gradients_stay_finite": False, "bad": NOT_FINITE}


@parity()
def test_losses_not_finite_within_the_patience(run: Run) -> None:
    """Counted, still sent backward, and out of the average; the count starts anew each epoch."""
    options = {"nonfinite_patience": 2}
    train(run, run.brain(SometimesNotFinite, modules(), sgd, ADDED, options), epochs=3)


@parity()
def test_weights_not_finite_within_the_patience(run: Run) -> None:
    """Nothing saves the weights: an infinite loss steps them to nan, and patience counts on."""
    options = {"nonfinite_patience": 100}
    train(run, run.brain(SometimesNotFinite, modules(), sgd, MULTIPLIED, options))


@parity()
def test_losses_not_finite_beyond_the_patience(run: Run) -> None:
    options = {"nonfinite_patience": 1}
    with run.expecting(ValueError):
        train(run, run.brain(SometimesNotFinite, modules(), sgd, ADDED, options))


@parity()
def test_no_patience(run: Run) -> None:
    options = {"nonfinite_patience": 0, "grad_accumulation_factor": 2}
    with run.expecting(ValueError):
        train(run, run.brain(SometimesNotFinite, modules(), sgd, MULTIPLIED, options))


@parity()
def test_gradients_not_finite_skipped(run: Run) -> None:
    options = {"skip_nonfinite_grads": True, "nonfinite_patience": 10, "max_grad_norm": 0.5}
    train(run, run.brain(SometimesNotFinite, modules(), adam, MULTIPLIED, options))


@parity()
def test_finite_loss_with_bad_gradients_skipped(run: Run) -> None:
    """Only some gradients are infinite, so clipping spreads them before the check."""

    class Overflowing(Regression):
        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> torch.Tensor:
            loss = super().compute_objectives(predictions, batch, stage)
            if stage == run.library.Stage.TRAIN and self.step == 2:
                bias = self.modules.model[4].bias[0]
                # the slope of a square root at zero
                loss = loss + torch.sqrt(bias - bias.detach())
            return loss

    options = {"skip_nonfinite_grads": True, "grad_accumulation_factor": 2}
    train(run, run.brain(Overflowing, modules(), adam, None, options))


class Scheduled(Regression):
    def lower(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] *= 0.7


@parity()
def test_rate_lowered_in_compute_objectives(run: Run) -> None:
    class Lowering(Scheduled):
        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> torch.Tensor:
            if stage == run.library.Stage.TRAIN:
                self.lower()
            return super().compute_objectives(predictions, batch, stage)

    train(run, run.brain(Lowering, modules(), adam, run_opts={"grad_accumulation_factor": 2}))


@parity()
def test_rate_lowered_on_fit_batch_end(run: Run) -> None:
    class Lowering(Scheduled):
        def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Any, should_step: bool) -> None:
            if should_step:
                self.lower()

    train(run, run.brain(Lowering, modules(), adam, run_opts={"grad_accumulation_factor": 2}))


@parity()
def test_rate_lowered_on_stage_start(run: Run) -> None:
    class Lowering(Scheduled):
        def on_stage_start(self, stage: Any, epoch: Any = None) -> None:
            if stage == run.library.Stage.TRAIN:
                self.lower()

    train(run, run.brain(Lowering, modules(), adam), epochs=3)


@parity()
def test_rate_lowered_on_stage_end(run: Run) -> None:
    class Lowering(Scheduled):
        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            if stage == run.library.Stage.VALID:
                self.lower()

    train(run, run.brain(Lowering, modules(), adam), epochs=3)


@parity(mixed=True)
def test_speechbrain_schedulers(run: Run) -> None:
    """NewBob at the stage's end, Noam at the batch's: SpeechBrain's own objects in either Brain."""
    from speechbrain.nnet.schedulers import NewBobScheduler, NoamScheduler, update_learning_rate

    class Scheduled(TwoOptimizers):
        def freeze_optimizers(self, optimizers: Any) -> Any:
            return optimizers

        def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Any, should_step: bool) -> None:
            if should_step:
                self.hparams.noam(self.encoder_optimizer)

        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            if stage == run.library.Stage.VALID:
                old, new = self.hparams.newbob(stage_loss)
                update_learning_rate(self.decoder_optimizer, new)
                run.note("rates", old=old, new=new)

    hparams = {
        "newbob": NewBobScheduler(0.1, annealing_factor=0.5, improvement_threshold=0.5),
        "noam": NoamScheduler(0.01, 4),
    }
    options = {"grad_accumulation_factor": 2}
    train(run, run.brain(Scheduled, two_modules(), None, hparams, options), epochs=3)


@parity()
def test_torch_scheduler(run: Run) -> None:
    class Scheduled(Regression):
        def init_optimizers(self) -> None:
            super().init_optimizers()  # type: ignore[misc]
            self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
                self.optimizer, max_lr=0.1, total_steps=20
            )

        def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Any, should_step: bool) -> None:
            self.scheduler.step()

    train(run, run.brain(Scheduled, modules(), sgd))


@parity()
def test_requires_grad_toggled(run: Run) -> None:
    class Toggling(Regression):
        def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
            self.modules.model[0].requires_grad_(self.step % 2 == 0)

        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            self.modules.model[4].bias.requires_grad_(stage == run.library.Stage.TRAIN)

    train(run, run.brain(Toggling, modules(), adam))


@parity()
def test_weights_clamped(run: Run) -> None:
    class Clamping(Regression):
        def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Any, should_step: bool) -> None:
            for parameter in self.modules.parameters():
                parameter.data.clamp_(-0.2, 0.2)

    train(run, run.brain(Clamping, modules(), sgd))


@parity()
def test_modules_called_through_hparams(run: Run) -> None:
    """The same object in hparams and modules; another one that only the optimizer knows."""

    class Through(Recipe):
        def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
            return self.hparams.model(self.hparams.front(batch[0]))

        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> torch.Tensor:
            return mse_loss(predictions, batch[1])

        def init_optimizers(self) -> None:
            self.optimizer = sgd(
                [*self.hparams.model.parameters(), *self.hparams.front.parameters()]
            )
            self.optimizers_dict = {"all": self.optimizer}

    shared = modules()
    front = torch.nn.Linear(INPUTS, INPUTS)
    brain = run.brain(Through, shared, None, {"model": shared["model"], "front": front})
    train(run, brain)
    run.note("front", **dict(front.named_parameters()), same=brain.modules.model is shared["model"])


# torch announces the end of TorchScript; the option is SpeechBrain's, and so is the warning.
deprecated_jit = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


@deprecated_jit
@parity()
def test_jit(run: Run) -> None:
    brain = run.brain(Regression, modules(), sgd, run_opts={"jit": True})
    train(run, brain)
    run.note("compiled", kind=type(brain.modules.model).__name__)


@deprecated_jit
@parity()
def test_jit_keys_without_jit(run: Run) -> None:
    """The keys alone compile nothing."""
    brain = run.brain(Regression, modules(), sgd, run_opts={"jit_module_keys": ["model"]})
    train(run, brain)
    run.note("compiled", kind=type(brain.modules.model).__name__)


@deprecated_jit
@parity()
def test_jit_of_some_modules(run: Run) -> None:
    options = {"jit": True, "jit_module_keys": ["decoder"]}
    brain = run.brain(TwoOptimizers, two_modules(), run_opts=options)
    train(run, brain)
    run.note("compiled", kinds=[type(module).__name__ for module in brain.modules.values()])


@parity()
def test_jit_of_a_module_that_is_not_there(run: Run) -> None:
    options = {"jit": True, "jit_module_keys": ["missing"]}
    brain = run.brain(Regression, modules(), sgd, run_opts=options)
    with run.expecting(ValueError):
        train(run, brain)


@parity()
def test_loss_of_one_element(run: Run) -> None:
    """A loss of shape [1] is a scalar for backward, and so for SpeechBrain."""

    class OneElement(Regression):
        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> torch.Tensor:
            return super().compute_objectives(predictions, batch, stage).reshape(1)

    train(run, run.brain(OneElement, modules(), adam))


@parity()
def test_loss_in_double_precision(run: Run) -> None:
    class Double(Regression):
        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> torch.Tensor:
            return super().compute_objectives(predictions.double(), batch, stage).double() / 3

    train(run, run.brain(Double, modules(), adam, run_opts={"grad_accumulation_factor": 3}))


@parity()
def test_optimizer_with_a_closure_or_a_tensor_rate(run: Run) -> None:
    """Whatever the optimizer is: a rate that is a tensor, parameters added while running."""

    class Adding(Regression):
        def on_stage_start(self, stage: Any, epoch: Any = None) -> None:
            if stage == run.library.Stage.TRAIN and epoch == 2:
                extra = torch.nn.Linear(OUTPUTS, OUTPUTS)
                self.modules.model.append(extra)
                self.optimizer.add_param_group({"params": extra.parameters()})

    rated = partial(torch.optim.SGD, lr=torch.tensor(0.05), foreach=False)
    train(run, run.brain(Adding, modules(), rated))
