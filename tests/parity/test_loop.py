"""The loop itself: epochs, stages, counters, and who ends it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from .scenario import Run, parity
from .small_recipes import Points, PointStream, Recipe, Regression, adam, modules, sgd

SHUFFLED = {"batch_size": 4, "shuffle": True}


@parity(mixed=True)
def test_plain(run: Run) -> None:
    brain = run.brain(Regression, modules(), sgd, {"epochs": 2})
    counter = run.library.EpochCounter(2)
    valid = {"batch_size": 3}
    brain.fit(counter, Points(10), Points(5, 1), None, SHUFFLED, valid)
    run.note("left", current=counter.current, train=SHUFFLED, valid=valid)
    run.note("evaluated", loss=brain.evaluate(Points(7, 2), test_loader_kwargs={"batch_size": 2}))


@parity()
def test_range_of_epochs(run: Run) -> None:
    brain = run.brain(Regression, modules(), adam)
    brain.fit(range(3), Points(6), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity()
def test_epochs_from_a_list(run: Run) -> None:
    """A list names epochs that are not consecutive; the sampler is seeded with them."""
    brain = run.brain(Regression, modules(), sgd)
    brain.fit([3, 7, 7], Points(6), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity()
def test_epochs_from_a_generator(run: Run) -> None:
    """The next epoch is asked for when the last one is over, not earlier."""

    def epochs() -> Any:
        for epoch in (1, 2):
            run.note("epoch asked for", epoch=epoch)
            yield epoch
        run.note("no epoch left")

    brain = run.brain(Regression, modules(), sgd)
    brain.fit(epochs(), Points(6), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity()
def test_no_epochs_at_all(run: Run) -> None:
    brain = run.brain(Regression, modules(), sgd)
    brain.fit(range(0), Points(6), Points(4, 1), train_loader_kwargs=SHUFFLED)
    brain.fit([], Points(6))


@parity()
def test_without_validation(run: Run) -> None:
    brain = run.brain(Regression, modules(), sgd)
    brain.fit(range(2), Points(6), train_loader_kwargs=SHUFFLED)


@parity()
def test_indexable_data(run: Run) -> None:
    """The example of SpeechBrain's page: a tuple of batches is a data set."""

    class Identity(Recipe):
        def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
            return self.modules.model(batch[0])

        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> torch.Tensor:
            return torch.nn.functional.l1_loss(predictions, batch[0])

    model = torch.nn.Linear(10, 10)
    brain = run.brain(Identity, {"model": model}, lambda x: torch.optim.SGD(x, 0.1))
    brain.fit(range(1), ([torch.rand(10, 10), torch.rand(10, 10)],))


@parity(mixed=True)
def test_ready_loaders(run: Run) -> None:
    brain = run.brain(Regression, modules(), sgd)
    train = DataLoader(Points(9), batch_size=2, shuffle=True)
    valid = run.library.SaveableDataLoader(Points(5, 1), batch_size=2)
    brain.fit(run.library.EpochCounter(2), train, valid)
    brain.evaluate(DataLoader(Points(5, 2), batch_size=2))


@parity()
def test_no_optimizer(run: Run) -> None:
    """Like k-means: statistics are gathered, nothing is stepped, fit_batch is the recipe's."""

    class Means(Recipe):
        def fit_batch(self, batch: Any) -> torch.Tensor:
            distances = torch.cdist(batch[0], self.hparams.centers)
            nearest = distances.argmin(dim=1)
            self.hparams.centers[nearest] += 0.1 * (batch[0] - self.hparams.centers[nearest])
            return distances.min(dim=1).values.mean()

        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            self.run.note("centers", centers=self.hparams.centers)

    brain = run.brain(Means, {"model": torch.nn.Identity()}, None, {"centers": torch.eye(3, 6)})
    brain.fit(run.library.EpochCounter(2), Points(7), train_loader_kwargs={"batch_size": 2})


@parity()
def test_no_optimizer_with_the_default_fit_batch(run: Run) -> None:
    """Gradients flow and accumulate, and nothing steps or zeroes them."""
    brain = run.brain(Regression, modules())
    brain.fit(range(2), Points(7), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity(mixed=True)
def test_stopper(run: Run) -> None:
    class Stopping(Regression):
        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            if stage == run.library.Stage.VALID:
                counter.update_metric(1.0 + epoch)
                run.note("stopper", should_stop=counter.should_stop, best=counter.best_limit)

    counter = run.library.EpochCounterWithStopper(10, 2, 1, "min")
    brain = run.brain(Stopping, modules(), sgd)
    brain.fit(counter, Points(6), Points(4, 1), train_loader_kwargs=SHUFFLED)
    run.note("left", current=counter.current)


@parity(mixed=True)
def test_fit_twice(run: Run) -> None:
    """The counter is used up, then its limit is raised: later epochs, a new optimizer."""
    brain = run.brain(Regression, modules(), adam)
    counter = run.library.EpochCounter(2)
    brain.fit(counter, Points(6), Points(4, 1), train_loader_kwargs=SHUFFLED)
    brain.fit(counter, Points(6), Points(4, 1), train_loader_kwargs=SHUFFLED)
    counter.limit = 3
    brain.fit(counter, Points(6), Points(4, 1), train_loader_kwargs=SHUFFLED)
    brain.evaluate(Points(4, 1))
    brain.fit(range(1), Points(6), train_loader_kwargs=SHUFFLED)


@parity()
def test_debug(run: Run) -> None:
    options = {"debug": True, "debug_batches": 2, "debug_epochs": 2}
    brain = run.brain(Regression, modules(), sgd, run_opts=options)
    counter = run.library.EpochCounter(5)
    brain.fit(counter, Points(10), Points(9, 1), train_loader_kwargs={"batch_size": 2})
    brain.evaluate(Points(10, 2))
    run.note("left", current=counter.current)


@parity()
def test_debug_all_epochs(run: Run) -> None:
    """SpeechBrain compares the epoch for equality, so no epoch ends a range from zero to two."""
    options = {"debug": True, "debug_batches": 1, "debug_epochs": -1}
    brain = run.brain(Regression, modules(), sgd, run_opts=options)
    brain.fit(range(3), Points(6), Points(9, 1), train_loader_kwargs=SHUFFLED)


@parity(mixed=True)
def test_debug_with_checkpointer(run: Run) -> None:
    """Debug diverts checkpoints, and the interval checkpoint of the last batch is left out."""
    model = modules()
    folder = run.folder / "save"
    checkpointer = run.library.Checkpointer(folder, {"model": model["model"]})
    options = {"debug": True, "debug_batches": 2, "debug_epochs": 1, "ckpt_interval_steps": 1}
    brain = run.brain(Regression, model, sgd, run_opts=options, checkpointer=checkpointer)
    brain.fit(run.library.EpochCounter(3), Points(8), train_loader_kwargs=SHUFFLED)
    run.note(
        "checkpoints",
        diverted=str(checkpointer.checkpoints_dir) != str(folder),
        found=len(checkpointer.list_checkpoints()),
    )
    # SpeechBrain leaves the folder to the garbage collector, which warns.
    checkpointer.tempdir.cleanup()


@parity()
def test_debug_persistently(run: Run) -> None:
    model = modules()
    checkpointer = run.library.Checkpointer(run.folder / "save", {"model": model["model"]})
    options = {"debug": True, "debug_persistently": True, "ckpt_interval_steps": 1}
    brain = run.brain(Regression, model, sgd, run_opts=options, checkpointer=checkpointer)
    brain.fit(range(3), Points(20), Points(20), train_loader_kwargs=SHUFFLED)


@parity()
def test_step_limit_in_an_epoch(run: Run) -> None:
    brain = run.brain(Regression, modules(), sgd, run_opts={"optimizer_step_limit": 4})
    counter = run.library.EpochCounter(5)
    brain.fit(counter, Points(12), Points(4, 1), train_loader_kwargs=SHUFFLED)
    run.note("left", current=counter.current)


@parity()
def test_step_limit_at_the_end_of_an_epoch(run: Run) -> None:
    brain = run.brain(Regression, modules(), sgd, run_opts={"optimizer_step_limit": 6})
    brain.fit(range(5), Points(12), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity()
def test_fit_beyond_the_step_limit(run: Run) -> None:
    """An epoch is opened, its first batch read and dropped, and validation still runs."""
    brain = run.brain(Regression, modules(), sgd, run_opts={"optimizer_step_limit": 2})
    brain.fit(range(5), Points(12), Points(4, 1), train_loader_kwargs=SHUFFLED)
    brain.fit(range(5), Points(12), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity()
def test_step_limit_with_accumulation_and_a_stream(run: Run) -> None:
    """The batch at which the limit is noticed has been drawn from the stream."""
    options = {"optimizer_step_limit": 2, "grad_accumulation_factor": 2}
    brain = run.brain(Regression, modules(), sgd, run_opts=options)
    brain.fit(range(5), PointStream(12), train_loader_kwargs={"batch_size": 2})


@parity()
def test_test_only(run: Run) -> None:
    brain = run.brain(Regression, modules(), sgd, run_opts={"test_only": True})
    counter = run.library.EpochCounter(2)
    brain.fit(counter, Points(6), Points(4, 1), train_loader_kwargs=SHUFFLED)
    brain.evaluate(Points(4, 1))
    run.note("left", current=counter.current)


@parity()
def test_counters_written_by_the_recipe(run: Run) -> None:
    """Like the codec recipe: step is set to optimizer_step inside the batch."""

    class Counting(Regression):
        def fit_batch(self, batch: Any) -> torch.Tensor:
            loss: torch.Tensor = super().fit_batch(batch)  # type: ignore[misc]
            self.optimizer_step += 2
            self.step = self.optimizer_step
            return loss

    brain = run.brain(Counting, modules(), sgd, run_opts={"grad_accumulation_factor": 2})
    brain.fit(range(2), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity()
def test_counters_written_between_hooks(run: Run) -> None:
    class Counting(Regression):
        def on_fit_start(self) -> None:
            super().on_fit_start()  # type: ignore[misc]
            self.step, self.avg_train_loss = 2, 0.5

        def on_stage_start(self, stage: Any, epoch: Any = None) -> None:
            self.optimizer_step = 10 * epoch

    brain = run.brain(Counting, modules(), sgd)
    brain.fit(range(2), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity()
def test_averages_of_the_recipe(run: Run) -> None:
    """Losses in a dict, averaged by the recipe; it writes avg_train_loss itself."""

    class Averaging(Regression):
        def fit_batch(self, batch: Any) -> Any:
            loss = super().fit_batch(batch)  # type: ignore[misc]
            return {"total": loss, "half": loss / 2}

        def update_average(self, loss: Any, avg_loss: float) -> float:
            value = loss["half"] if isinstance(loss, dict) else loss
            return avg_loss + float(value)

    brain = run.brain(Averaging, modules(), sgd)
    brain.fit(range(2), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)
    run.note("evaluated", loss=brain.evaluate(Points(4, 1)))


@parity()
def test_mode_changed_by_the_recipe(run: Run) -> None:
    """Train and eval mode stay as the recipe and the stages leave them, after fit as well."""

    class Frozen(Regression):
        def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
            self.modules.model[1].eval()

        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            if stage == run.library.Stage.VALID:
                self.modules.model[3].train()

    brain = run.brain(Frozen, modules(), sgd)
    brain.fit(range(2), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)
    run.note("left", training=[module.training for module in brain.modules.modules()])
    brain.fit(range(1), Points(10), train_loader_kwargs=SHUFFLED)
    run.note("left", training=[module.training for module in brain.modules.modules()])


@parity()
def test_modules_reassigned(run: Run) -> None:
    class Growing(Regression):
        def on_stage_start(self, stage: Any, epoch: Any = None) -> None:
            if stage == run.library.Stage.TRAIN and epoch == 1:
                self.modules = torch.nn.ModuleDict({"model": self.modules.model, "other": other})

    other = torch.nn.Dropout()
    brain = run.brain(Growing, modules(), sgd)
    brain.fit(range(2), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)
    run.note("left", training=other.training, names=list(brain.modules))


@parity()
def test_module_replaced_in_a_batch(run: Run) -> None:
    class Cutting(Regression):
        def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
            if self.step == 2 and len(self.modules.model) == 5:
                self.modules = torch.nn.ModuleDict(
                    {"model": torch.nn.Sequential(self.modules.model[0], self.modules.model[4])}
                )
            return super().compute_forward(batch, stage)

    brain = run.brain(Cutting, modules(), sgd)
    brain.fit(range(2), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)


@parity()
def test_progress_bar(run: Run) -> None:
    """A bar that is shown reads nothing but what it is told."""
    brain = run.brain(Regression, modules(), sgd, run_opts={"noprogressbar": False})
    brain.fit(range(2), Points(6), Points(4, 1), train_loader_kwargs=SHUFFLED)
    brain.fit(range(1), Points(6), progressbar=False)
    brain.evaluate(Points(4, 1), progressbar=True)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, StopIteration])
def test_errors_reach_the_caller(error: type[BaseException], tmp_path: Any) -> None:
    @parity()
    def interrupted(run: Run) -> None:
        class Failing(Regression):
            def on_fit_batch_end(self, batch: Any, *others: Any) -> None:
                if self.step == 2 and self.failing:
                    raise error

        brain = run.brain(Failing, modules(), sgd)
        brain.failing = True
        with run.expecting(error):
            brain.fit(range(2), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)
        brain.failing = False
        brain.fit(range(2), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)

    interrupted(candidate="ours", tmp_path=tmp_path)


@parity()
def test_error_in_validation(run: Run) -> None:
    class Failing(Regression):
        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            if stage == run.library.Stage.VALID and epoch == 1:
                raise ArithmeticError

    brain = run.brain(Failing, modules(), sgd)
    with run.expecting(ArithmeticError):
        brain.fit(range(3), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)
    brain.evaluate(Points(4, 1))


@parity()
def test_extra_arguments_and_own_loop(run: Run) -> None:
    """compute_forward has more arguments and is called from the recipe's main."""

    class Wider(Regression):
        def compute_forward(self, batch: Any, stage: Any, scale: float = 1.0) -> torch.Tensor:
            return scale * super().compute_forward(batch, stage)

    brain = run.brain(Wider, modules(), sgd)
    brain.fit(range(1), Points(10), Points(4, 1), train_loader_kwargs=SHUFFLED)
    points = Points(4, 1)
    batch = [points.inputs, points.targets]
    run.note("called", output=brain.compute_forward(batch, run.library.Stage.TEST, scale=2.0))
    run.note("called", loss=brain.evaluate_batch(batch, stage=run.library.Stage.TEST))


@parity()
def test_set_up_by_hand(run: Run) -> None:
    """A recipe that prepares itself and steps outside of fit."""
    brain = run.brain(Regression, modules(), sgd)
    brain._compile()
    brain._wrap_distributed()
    brain.init_optimizers()
    brain.step, brain.nonfinite_count = 1, 0
    points = Points(4)
    run.note("called", loss=brain.fit_batch([points.inputs, points.targets]))


@parity()
def test_empty_validation_and_test_sets(run: Run) -> None:
    """Their stages open and close with an average of zero."""
    brain = run.brain(Regression, modules(), sgd)
    brain.fit(range(2), Points(6), Points(0), train_loader_kwargs=SHUFFLED)
    run.note("evaluated", loss=brain.evaluate(Points(0)))


@parity()
def test_no_modules(run: Run) -> None:
    class Counting(Recipe):
        def fit_batch(self, batch: Any) -> torch.Tensor:
            return batch[0].mean()

        def evaluate_batch(self, batch: Any, stage: Any) -> torch.Tensor:
            return batch[0].std()

    brain = run.brain(Counting)
    brain.fit(range(2), Points(6), Points(4, 1), train_loader_kwargs=SHUFFLED)
    run.note("evaluated", loss=brain.evaluate(Points(4, 1)))


@parity()
def test_names_of_the_recipe(run: Run) -> None:
    """A recipe may use any name that SpeechBrain leaves free, Lightning's hooks among them."""

    def never(self: Any, *arguments: Any, **kwargs: Any) -> Any:
        raise AssertionError("SpeechBrain never calls this")

    hooks = [
        "on_evaluate_end",
        "on_fit_end",
        "on_train_start",
        "on_train_epoch_start",
        "on_train_batch_end",
        "on_validation_epoch_end",
        "on_before_optimizer_step",
        "on_save_checkpoint",
        "on_exception",
        "training_step",
        "validation_step",
        "configure_optimizers",
        "configure_model",
        "forward",
        "train_dataloader",
        "transfer_batch_to_device",
        "setup",
        "teardown",
        "state_dict",
        "load_state_dict",
        "optimizer_zero_grad",
        "lr_scheduler_step",
        "backward",
    ]

    class Free(Regression):
        def on_stage_start(self, stage: Any, epoch: Any = None) -> None:
            run.note("kept", log=self.log, state=self.state, engine=self.engine, run=self.fit_run)
            self.loop, self.callbacks, self.current_epoch = "loop", [1], "third"

        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            run.note("kept", loop=self.loop, calls=self.callbacks, epoch=self.current_epoch)

    free = type("Free", (Free,), dict.fromkeys(hooks, never))
    brain = run.brain(free, modules(), sgd)
    brain.log, brain.state, brain.engine, brain.fit_run = "mine", {"a": 1}, 2.5, [3]
    brain.connection, brain.module, brain.logger = "mine", "mine", "mine"
    brain.fit(range(2), Points(6), Points(4, 1), train_loader_kwargs=SHUFFLED)
    brain.evaluate(Points(4, 1))
    run.note("kept", connection=brain.connection, module=brain.module, logger=brain.logger)


@parity()
def test_trainer_as_an_attribute_of_the_recipe(run: Run) -> None:
    """Lightning's most ordinary name, set before fit by a recipe that knows nothing of it."""
    brain = run.brain(Regression, modules(), sgd)
    brain.trainer = "the recipe's"
    brain.fit(range(1), Points(6), Points(4, 1), train_loader_kwargs=SHUFFLED)
    run.note("kept", trainer=brain.trainer)


@parity()
def test_anomaly_detection_around_fit(run: Run) -> None:
    """As SpeechBrain's message about losses that are not finite tells its readers to do."""
    brain = run.brain(Regression, modules(), sgd)
    with torch.autograd.set_detect_anomaly(True):
        brain.fit(range(1), Points(6), Points(4, 1), train_loader_kwargs=SHUFFLED)
