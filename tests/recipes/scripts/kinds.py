"""Small recipes, one behaviour each, on made tones; `--recipe` chooses."""

from enum import Enum, auto

import speechbrain as sb
import torch
from beginning import begin, tone_datasets
from record import record, record_weights
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from torch.utils.data import DataLoader


class EnhancerBrain(sb.core.Brain):
    """The ordinary recipe that the others are made from."""

    def compute_forward(self, batch, stage):
        return self.modules.generator(batch.noisy.data.to(self.device).unsqueeze(-1)).squeeze(-1)

    def compute_objectives(self, predictions, batch, stage):
        loss = self.hparams.mse(predictions, batch.clean.data.to(self.device))
        record(stage.name, loss=loss, step=self.step, updates=self.optimizer_step)
        return loss

    def on_stage_end(self, stage, stage_loss, epoch=None):
        record(f"end {stage.name}", loss=float(stage_loss), epoch=epoch)
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
        elif stage == sb.Stage.VALID:
            self.hparams.train_logger.log_stats(
                {"epoch": epoch}, {"loss": self.train_loss}, {"loss": stage_loss}
            )
            self.checkpointer.save_and_keep_only(meta={"loss": stage_loss}, min_keys=["loss"])

    def run(self, train, valid, test):
        loader = {"batch_size": 2}
        self.fit(self.hparams.epoch_counter, train, valid, None, self.hparams.loader, loader)
        record("after fit", step=self.step, updates=self.optimizer_step)
        record("returned", loss=float(self.evaluate(test, min_key="loss", test_loader_kwargs={})))


class DictLossBrain(EnhancerBrain):
    """Self-supervised: a dictionary of losses, near the default fit_batch, own batch end."""

    def compute_objectives(self, predictions, batch, stage):
        loss = super().compute_objectives(predictions, batch, stage)
        return {"loss": loss, "diversity": predictions.std()} if stage == sb.Stage.TRAIN else loss

    def fit_batch(self, batch):
        should_step = self.step % self.grad_accumulation_factor == 0
        with self.no_sync(not should_step), self.training_ctx:
            objectives = self.compute_objectives(
                self.compute_forward(batch, sb.Stage.TRAIN), batch, sb.Stage.TRAIN
            )
            loss = objectives["loss"] - 0.01 * objectives["diversity"]
            self.scaler.scale(loss / self.grad_accumulation_factor).backward()
            objectives["total"] = loss.detach()
        if should_step:
            self.optimizers_step()
        self.on_fit_batch_end(objectives)
        return loss.detach().cpu()

    def on_fit_batch_end(self, objectives):
        record("objectives", **objectives)


class KMeansBrain(EnhancerBrain):
    """No optimizer at all: means are moved in compute_objectives."""

    def compute_forward(self, batch, stage):
        self.frames = batch.noisy.data.reshape(-1, 40)
        return torch.cdist(self.frames, self.hparams.means).argmin(dim=-1)

    def compute_objectives(self, predictions, batch, stage):
        means = self.hparams.means
        if stage == sb.Stage.TRAIN:
            for index in predictions.unique():
                means[index] += 0.5 * (self.frames[predictions == index].mean(dim=0) - means[index])
        loss = ((self.frames - means[predictions]) ** 2).mean().requires_grad_()
        record(stage.name, loss=loss, means=means, step=self.step)
        return loss

    def fit_batch(self, batch):
        return self.compute_objectives(
            self.compute_forward(batch, sb.Stage.TRAIN), batch, sb.Stage.TRAIN
        ).detach()


class FreezingBrain(EnhancerBrain):
    """Which optimizers are active depends on optimizer_step; requires_grad is toggled."""

    def init_optimizers(self):
        self.first = self.hparams.g_opt_class(self.hparams.generator["conv1"].parameters())
        self.second = self.hparams.d_opt_class(self.hparams.generator["conv2"].parameters())
        self.optimizers_dict = {"first": self.first, "second": self.second}
        self.checkpointer.add_recoverable("first", self.first)
        self.checkpointer.add_recoverable("second", self.second)

    def freeze_optimizers(self, optimizers):
        valid = {"second": optimizers["second"]}
        if self.optimizer_step >= self.hparams.frozen_steps:
            valid["first"] = optimizers["first"]
        record("active", names=",".join(valid))
        return valid

    def on_fit_batch_start(self, batch, should_step):
        frozen = self.optimizer_step < self.hparams.frozen_steps
        for parameter in self.hparams.generator["conv1"].parameters():
            parameter.requires_grad = not frozen

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        if should_step:
            for parameter in self.modules.generator["conv2"].parameters():
                parameter.data.clamp_(-0.5, 0.5)


class SecondStageBrain(EnhancerBrain):
    """The optimizer is deleted and replaced in epoch two, then there is a second recover."""

    def on_stage_start(self, stage, epoch=None):
        if stage == sb.Stage.TRAIN and epoch == 2:
            optimizer = torch.optim.SGD(self.modules.parameters(), lr=0.05)
            self.checkpointer.add_recoverable("optimizer", optimizer)
            del self.optimizer
            self.optimizer = optimizer
            self.checkpointer.recover_if_possible(
                ckpt_predicate=lambda checkpoint: "no such key" in checkpoint.meta
            )
            record("replaced", kinds=[type(o).__name__ for o in self.optimizers_dict.values()])

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        if should_step:
            self.optimizer.param_groups[0]["lr"] *= 0.9
        record("rates", rates=[group["lr"] for group in self.optimizer.param_groups])

    def on_evaluate_start(self, max_key=None, min_key=None):
        super().on_evaluate_start(max_key, min_key)
        files = [
            checkpoint.paramfiles["generator"]
            for checkpoint in self.checkpointer.find_checkpoints(
                max_key=max_key, min_key=min_key, max_num_checkpoints=2
            )
        ]
        states = [torch.load(file) for file in files]
        mean = {key: sum(state[key] for state in states) / len(states) for key in states[0]}
        self.hparams.generator.load_state_dict(mean, strict=True)
        self.hparams.generator.eval()


class ViterbiBrain(EnhancerBrain):
    """evaluate() inside of on_stage_end(VALID), each second epoch, with another role."""

    aligning = False

    def compute_objectives(self, predictions, batch, stage):
        if self.aligning:
            for name, prediction in zip(batch.id, predictions, strict=True):
                self.alignments[name] = int(prediction.argmax())
        return super().compute_objectives(predictions, batch, stage)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        if self.aligning:
            record("aligned", found=dict(sorted(self.alignments.items())), stage=stage.name)
            return
        super().on_stage_end(stage, stage_loss, epoch)
        if stage == sb.Stage.VALID and epoch % 2 == 1:
            self.aligning, self.alignments = True, {}
            self.evaluate(self.train_set, test_loader_kwargs={"batch_size": 3})
            self.aligning = False

    def on_evaluate_start(self, max_key=None, min_key=None):
        if not self.aligning:
            super().on_evaluate_start(max_key, min_key)

    def run(self, train, valid, test):
        self.train_set = train
        super().run(train, valid, test)


class OwnLoop(Enum):
    TRAIN = auto()
    TEST = auto()


@register_checkpoint_hooks
class Tally:
    """A recoverable of the recipe's own, with marks and a custom hook."""

    count = 0

    @mark_as_saver
    def save(self, path):
        with open(path, "w", encoding="utf-8") as file:
            file.write(str(self.count))

    @mark_as_loader
    def load(self, path, end_of_epoch):
        with open(path, encoding="utf-8") as file:
            self.count = int(file.read())


def save_shifted(tally, path):
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{tally.count + 1000}")


class OddBrain(EnhancerBrain):
    """Late recoverables, own validation rhythm, ready loaders, own loop, more arguments."""

    def compute_forward(self, batch, stage, gain=1.0):
        if stage == sb.Stage.TRAIN:
            self.hparams.tally.count += 1
        return gain * super().compute_forward(batch, stage)

    def on_fit_start(self):
        super().on_fit_start()
        self.checkpointer.add_recoverable("tally", self.hparams.tally)
        self.checkpointer.add_recoverable(
            "shifted", self.hparams.tally, custom_save_hook=save_shifted
        )
        self.checkpointer.recover_if_possible()

    def _fit_valid(self, valid_set, epoch, enable):
        if epoch % 2 == 0:
            super()._fit_valid(valid_set, epoch, enable)
        record("valid?", epoch=epoch, training=self.modules.training, step=self.step)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        super().on_stage_end(stage, stage_loss, epoch)
        if stage == sb.Stage.TRAIN:
            self.checkpointer.save_checkpoint(meta={"loss": 9.0}, name=f"train{epoch}")
        if stage == sb.Stage.TEST:
            self.checkpointer.save_and_keep_only(
                meta={"loss": -1.0}, min_keys=["loss"], num_to_keep=1
            )

    def run(self, train, valid, test):
        self.hparams.tally = Tally()
        loaders = [
            sb.dataio.dataloader.SaveableDataLoader(data, batch_size=2, collate_fn=PaddedBatch)
            for data in (train, valid)
        ]
        self.fit(range(1, 4), *loaders, progressbar=False)
        kwargs = {"batch_size": 1}
        for _ in range(2):
            self.evaluate(test, min_key="loss", test_loader_kwargs=kwargs)
        record("kwargs", keys=sorted(kwargs), prefix=kwargs["ckpt_prefix"])
        self.modules.eval()
        with torch.no_grad():
            for batch in DataLoader(test, batch_size=2, collate_fn=PaddedBatch):
                outputs = self.compute_forward(batch, OwnLoop.TEST, gain=0.5)
                self.compute_objectives(outputs, batch, OwnLoop.TEST)


class StreamBrain(EnhancerBrain):
    """An endless stream in nominal epochs, with a limit of optimizer steps and of patience."""

    def compute_objectives(self, predictions, batch, stage):
        loss = super().compute_objectives(predictions, batch, stage)
        return loss * float("nan") if stage == sb.Stage.TRAIN and self.step == 2 else loss

    def run(self, train, valid, test):
        kwargs = {"batch_size": 2, "collate_fn": PaddedBatch, "looped_nominal_epoch": 4}
        self.fit(self.hparams.epoch_counter, Stream(train), valid, train_loader_kwargs=kwargs)
        record("counts", step=self.step, updates=self.optimizer_step, bad=self.nonfinite_count)
        self.evaluate(test)


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, data):
        self.data = data

    def __iter__(self):
        while True:
            yield from self.data


RECIPES = {
    "plain": EnhancerBrain,
    "dict_losses": DictLossBrain,
    "kmeans": KMeansBrain,
    "freezing": FreezingBrain,
    "second_stage": SecondStageBrain,
    "viterbi": ViterbiBrain,
    "odd": OddBrain,
    "stream": StreamBrain,
}


if __name__ == "__main__":
    hparams, run_opts = begin()
    chosen = RECIPES[hparams["recipe"]]
    hparams["means"] = torch.randn(4, 40)
    hparams["frozen_steps"] = 4
    if chosen is StreamBrain:
        hparams["optimizer_step_limit"] = 9
    without_optimizer = chosen in (KMeansBrain, FreezingBrain)
    brain = chosen(
        {"generator": hparams["generator"]} if chosen is not KMeansBrain else None,
        None if without_optimizer else hparams["opt_class"],
        hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.run(*tone_datasets())
    record_weights("final", brain.modules)
