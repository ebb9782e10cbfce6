"""Still more recipes in the manner of SpeechBrain's tasks; `--recipe` chooses."""

import sys
from functools import partial
from pathlib import Path

import speechbrain as sb
import torch
from clips import made_tones
from hyperpyyaml import load_hyperpyyaml
from record import record, record_weights
from speechbrain.core import Brain, Stage
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import DynamicBatchSampler
from speechbrain.utils.checkpoints import Checkpointer, torch_recovery
from speechbrain.utils.data_utils import batch_pad_right
from speechbrain.utils.epoch_loop import EpochCounter, EpochCounterWithStopper
from speechbrain.utils.metric_stats import MetricStats
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, IterableDataset


class Base(Brain):
    def compute_forward(self, batch, stage):
        return self.modules.generator(batch["noisy"].to(self.device).unsqueeze(-1)).squeeze(-1)

    def compute_objectives(self, predictions, batch, stage):
        loss = self.hparams.mse(predictions, batch["clean"].to(self.device))
        record(stage.name, loss=loss, step=self.step, updates=self.optimizer_step)
        return loss

    def on_stage_end(self, stage, stage_loss, epoch):
        record(f"end {stage.name}", loss=stage_loss, epoch=epoch, training=self.modules.training)
        if stage == Stage.VALID:
            self.checkpointer.save_and_keep_only({"loss": stage_loss}, min_keys=["loss"])

    def run(self, sets):
        loader = {"batch_size": 2, "collate_fn": collate, "drop_last": True, "shuffle": True}
        self.fit(
            self.hparams.epoch_counter,
            *sets[:2],
            train_loader_kwargs=loader,
            valid_loader_kwargs={"collate_fn": collate},
        )
        record("returned", loss=self.evaluate(sets[2], test_loader_kwargs={"collate_fn": collate}))


def collate(examples, pad=batch_pad_right):
    keys = ("clean", "noisy")
    return {key: pad([example[key] for example in examples])[0] for key in keys}


class BestRQ(Base):
    """A quantizer that is frozen, a mask drawn per batch, logs by optimizer steps, a step limit."""

    def compute_forward(self, batch, stage):
        noisy = batch["noisy"].to(self.device)
        self.mask = torch.rand(noisy.shape) < 0.2
        noisy = noisy.masked_fill(self.mask, 0.0)
        return self.modules.generator(noisy.unsqueeze(-1)).squeeze(-1)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        if should_step:
            self.hparams.noam(self.optimizer)
            self.train_stats = {"loss": float(loss), "masked": int(self.mask.sum())}
            if self.optimizer_step % 2 == 0:
                self.hparams.train_logger.log_stats(
                    {"step": self.optimizer_step, "lr": self.hparams.noam.current_lr},
                    train_stats=self.train_stats,
                )

    def run(self, sets):
        self.hparams.noam = sb.nnet.schedulers.NoamScheduler(0.01, 3)
        self.checkpointer.add_recoverable("noam", self.hparams.noam)
        super().run(sets)


class Unwrapping(Base):
    """Unwraps DDP, swaps a module, averages its own weights, and restores them by hand."""

    def on_fit_start(self):
        super().on_fit_start()
        self.average = {k: v.clone() for k, v in self.model.state_dict().items()}

    @property
    def model(self):
        wrapped = self.modules.generator
        return wrapped.module if isinstance(wrapped, DistributedDataParallel) else wrapped

    def fit_batch(self, batch):
        loss = super().fit_batch(batch)
        with torch.no_grad():
            for key, value in self.model.state_dict().items():
                if value.is_floating_point():
                    self.average[key].mul_(0.9).add_(value, alpha=0.1)
        return loss

    def on_stage_start(self, stage, epoch=None):
        if stage == Stage.VALID:
            self.kept = {k: v.clone() for k, v in self.model.state_dict().items()}
            self.model.load_state_dict(self.average)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        super().on_stage_end(stage, stage_loss, epoch)
        if stage == Stage.VALID:
            self.model.load_state_dict(self.kept)

    def run(self, sets):
        super().run(sets)
        fresh = Checkpointer(self.checkpointer.checkpoints_dir, {"generator": self.model})
        best = fresh.find_checkpoint(min_key="loss")
        torch_recovery(self.model, best.paramfiles["generator"], end_of_epoch=True)


class TwoLosses(Base):
    """Returns several things, logs metrics of the batch, an update each two batches by hand."""

    def fit_batch(self, batch):
        outputs = self.compute_forward(batch, Stage.TRAIN)
        losses = self.losses(outputs, batch)
        loss = sum(losses.values())
        loss.backward()
        if self.step % 2 == 0 and self.check_gradients() is not False:
            torch.nn.utils.clip_grad_norm_(self.modules.parameters(), self.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.optimizer_step += 1
        self.on_fit_batch_end(batch, outputs, loss, True)
        record("pair", **losses)
        return loss.detach().cpu()

    def losses(self, outputs, batch):
        return {
            "one": self.compute_objectives(outputs, batch, Stage.TRAIN),
            "two": 0.1 * outputs.abs().mean(),
        }

    def evaluate_batch(self, batch, stage):
        with torch.inference_mode():
            outputs = self.compute_forward(batch, stage)
            self.metric.append(list(range(len(outputs))), outputs, batch["clean"])
            return self.compute_objectives(outputs, batch, stage).cpu()

    def on_stage_start(self, stage, epoch=None):
        self.metric = MetricStats(metric=lambda a, b: (a - b).abs().mean(-1), batch_eval=True)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        super().on_stage_end(stage, stage_loss, epoch)
        if stage != Stage.TRAIN:
            record("metric", mean=self.metric.summarize("average"))
            path = f"{self.hparams.output_folder}/metric_{stage.name}.txt"
            with open(path, "w", encoding="utf-8") as file:
                self.metric.write_stats(file)


class Streaming(Base):
    """An IterableDataset of the recipe's own, with DynamicBatchSampler sets beside it."""

    def run(self, sets):
        stream = Stream(sets[0])
        loader = {"batch_size": 2, "collate_fn": collate}
        self.fit(EpochCounter(2), stream, sets[1], None, loader, {"collate_fn": collate})
        sampler = DynamicBatchSampler(
            sets[0], 3.0, num_buckets=2, length_func=lambda example: 1.0, shuffle=True, seed=3
        )
        loader = {"batch_sampler": sampler, "collate_fn": collate, "num_workers": 2}
        self.fit(EpochCounter(3), sets[0], sets[1], None, loader, {"collate_fn": collate})
        ready = DataLoader(sets[2], batch_size=1, collate_fn=partial(collate))
        record("returned", loss=self.evaluate(ready, progressbar=True))


class Stream(IterableDataset):
    def __init__(self, examples):
        self.examples = examples

    def __iter__(self):
        yield from self.examples


class Stopping(Base):
    """Stops by itself: StopIteration out of the counter, an exception that main catches."""

    def on_stage_end(self, stage, stage_loss, epoch=None):
        super().on_stage_end(stage, stage_loss, epoch)
        if stage == Stage.VALID and epoch == 2:
            raise KeyError("enough")

    def run(self, sets):
        try:
            super().run(sets)
        except KeyError as error:
            record("caught", error=error, step=self.step, average=float(self.avg_train_loss))
        for epoch in range(2):
            self.fit([epoch + 10], sets[0], train_loader_kwargs={"collate_fn": collate})
        record("returned", loss=self.evaluate(sets[2], test_loader_kwargs={"collate_fn": collate}))


class Adapters(Base):
    """Freezes all but an adapter, which init_optimizers picks; saves the adapter only."""

    def init_optimizers(self):
        for name, parameter in self.modules.generator.named_parameters():
            parameter.requires_grad = "conv2" in name
        trained = [p for p in self.modules.parameters() if p.requires_grad]
        self.optimizer = self.opt_class(trained)
        self.optimizers_dict = {"opt_class": self.optimizer}
        self.checkpointer.add_recoverable("optimizer", self.optimizer)
        self.checkpointer.recoverables.pop("generator")
        self.checkpointer.add_recoverable("adapter", self.modules.generator["conv2"])

    def on_evaluate_start(self, max_key=None, min_key=None):
        super().on_evaluate_start(max_key="nothing", min_key=None)
        record("params", trainable=sum(p.requires_grad for p in self.modules.parameters()))


class OwnNames(Base):
    """Validation on training data, no validation in the second fit, attributes of the recipe's."""

    trainer = "my own trainer"
    log = print

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.callbacks, self.strategy, self.loggers = [], "own", {}
        self.current_epoch = self.global_step = 0
        self.train_dataloader = None

    def on_fit_batch_start(self, batch, should_step):
        self.current_epoch = self.hparams.epoch_counter.current
        self.global_step += 1

    def run(self, sets):
        super().run([sets[0], sets[0], sets[1]])
        self.fit(range(5, 7), sets[0], train_loader_kwargs={"collate_fn": collate})
        record("own", names=[self.trainer, self.strategy, self.current_epoch, self.global_step])


class Patient(Base):
    """Stops early, by a metric that is judged after the save; then tests, and fits once more."""

    def on_stage_end(self, stage, stage_loss, epoch):
        super().on_stage_end(stage, stage_loss, epoch)
        if stage == Stage.VALID:
            plateau = self.hparams.plateau([self.optimizer], epoch, stage_loss)[1]
            halved = self.hparams.new_bob(stage_loss)[1]
            sb.nnet.schedulers.update_learning_rate(self.optimizer, min(plateau, halved))
            self.hparams.epoch_counter.update_metric(stage_loss)
            record("rates", plateau=plateau, halved=halved, epoch=epoch)

    def run(self, sets):
        self.hparams.epoch_counter = EpochCounterWithStopper(9, 1, 1, "max")
        self.hparams.plateau = sb.nnet.schedulers.ReduceLROnPlateau(
            factor=0.3, patience=0, dont_halve_until_epoch=1
        )
        self.hparams.new_bob = sb.nnet.schedulers.NewBobScheduler(0.01)
        self.checkpointer.add_recoverables(
            {
                "counter": self.hparams.epoch_counter,
                "plateau": self.hparams.plateau,
                "new_bob": self.hparams.new_bob,
            }
        )
        super().run(sets)
        loader = {"collate_fn": collate}
        worst = self.evaluate(sets[2], max_key="loss", test_loader_kwargs={**loader})
        record("worst", loss=worst)
        self.fit(self.hparams.epoch_counter, sets[0], sets[1], None, loader, loader)
        record("stopped", epoch=self.hparams.epoch_counter.current)


RECIPES = {
    "patient": Patient,
    "bestrq": BestRQ,
    "unwrap": Unwrapping,
    "two_losses": TwoLosses,
    "streaming": Streaming,
    "stopping": Stopping,
    "adapters": Adapters,
    "own_names": OwnNames,
}


def main(argv):
    hparams_file, run_opts, overrides = sb.parse_arguments(argv)
    hparams = load_hyperpyyaml(Path(hparams_file).read_text(), overrides)
    sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)
    sets = [
        DynamicItemDataset(made_tones(count, seed=seed), output_keys=["id", "clean", "noisy"])
        for count, seed in ((7, 1), (2, 2), (3, 3))
    ]
    brain = RECIPES[hparams["recipe"]](
        modules={"generator": hparams["generator"]},
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.run(sets)
    record_weights("final", brain.modules)
    record("left", step=brain.step, updates=brain.optimizer_step, average=brain.avg_train_loss)


if __name__ == "__main__":
    main(sys.argv[1:])
