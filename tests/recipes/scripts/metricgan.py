"""Like MetricGAN: fit() inside of on_stage_start, two optimizers, a state machine in fit_batch."""

from enum import Enum, auto

import speechbrain as sb
import torch
from beginning import begin, tone_datasets
from record import record, record_weights
from speechbrain.dataio.sampler import ReproducibleWeightedRandomSampler


class SubStage(Enum):
    GENERATOR = auto()
    CURRENT = auto()
    HISTORICAL = auto()


class MetricGanBrain(sb.Brain):
    def compute_forward(self, batch, stage):
        noisy = batch.noisy.data.to(self.device).unsqueeze(-1)
        return self.modules.generator(noisy).squeeze(-1)

    def compute_objectives(self, predictions, batch, stage, optim_name="generator"):
        clean = batch.clean.data.to(self.device)
        if stage != sb.Stage.TRAIN:
            return self.hparams.mse(predictions, clean)
        if optim_name == "generator":
            score, target = self.judge(predictions, clean), 1.0
            self.batches_seen[",".join(batch.id)] = batch.noisy.data
        elif optim_name == "D_clean":
            score, target = self.judge(clean, clean), 1.0
        else:
            score = self.judge(predictions.detach(), clean)
            target = float(torch.nn.functional.cosine_similarity(predictions, clean).mean())
        loss = ((score - target) ** 2).mean()
        record(optim_name, loss=loss, sub=self.sub_stage.name, step=self.step)
        return loss

    def judge(self, signal, clean):
        return self.modules.discriminator(torch.stack([signal, clean], dim=-1)).reshape(-1)

    def fit_batch(self, batch):
        losses = []
        names = {
            SubStage.GENERATOR: ["generator"],
            SubStage.CURRENT: ["D_enh", "D_clean"],
            SubStage.HISTORICAL: ["D_enh"],
        }[self.sub_stage]
        for name in names:
            optimizer = self.g_optimizer if name == "generator" else self.d_optimizer
            predictions = self.compute_forward(batch, sb.Stage.TRAIN)
            loss = self.compute_objectives(predictions, batch, sb.Stage.TRAIN, name)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.modules.parameters(), self.max_grad_norm)
            optimizer.step()
            losses.append(loss.detach().cpu())
        return sum(losses) / len(losses)

    def on_fit_start(self):
        if self.sub_stage == SubStage.GENERATOR:
            super().on_fit_start()

    def init_optimizers(self):
        self.g_optimizer = self.hparams.g_opt_class(self.modules.generator.parameters())
        self.d_optimizer = self.hparams.d_opt_class(self.modules.discriminator.parameters())
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("g_opt", self.g_optimizer)
            self.checkpointer.add_recoverable("d_opt", self.d_optimizer)

    def zero_grad(self, set_to_none=False):
        self.g_optimizer.zero_grad(set_to_none)
        self.d_optimizer.zero_grad(set_to_none)

    def on_stage_start(self, stage, epoch=None):
        record(f"start {stage.name}", epoch=epoch, sub=self.sub_stage.name, step=self.step)
        if stage == sb.Stage.TRAIN and self.sub_stage == SubStage.GENERATOR:
            self.batches_seen = {}
            self.train_discriminator(epoch)

    def train_discriminator(self, epoch):
        for sub_stage, data in (
            (SubStage.CURRENT, self.train_set),
            (SubStage.HISTORICAL, self.history),
            (SubStage.CURRENT, self.train_set),
        ):
            if len(data) == 0:
                continue
            self.sub_stage = sub_stage
            self.fit(range(1), data, train_loader_kwargs=dict(self.hparams.loader))
        self.sub_stage = SubStage.GENERATOR
        for example in list(self.train_set)[:3]:
            self.history[f"{example['id']}-{epoch}"] = {
                "clean": example["clean"],
                "noisy": example["noisy"],
            }

    def make_dataloader(self, dataset, stage, ckpt_prefix="dataloader-", **loader_kwargs):
        if isinstance(dataset, dict):
            dataset = sb.dataio.dataset.DynamicItemDataset(
                dataset, output_keys=["id", "clean", "noisy"]
            )
            self.train_sampler = ReproducibleWeightedRandomSampler(
                weights=[1.0] * len(dataset), num_samples=4, replacement=True, epoch=2
            )
            loader_kwargs.update(sampler=self.train_sampler, shuffle=False)
            ckpt_prefix = None
        return super().make_dataloader(dataset, stage, ckpt_prefix, **loader_kwargs)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        record(f"end {stage.name}", loss=stage_loss, epoch=epoch, sub=self.sub_stage.name)
        if self.sub_stage != SubStage.GENERATOR:
            return
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
        elif stage == sb.Stage.VALID:
            self.hparams.train_logger.log_stats(
                {"Epoch": epoch}, {"loss": self.train_loss}, {"loss": stage_loss}
            )
            self.checkpointer.save_and_keep_only(meta={"loss": stage_loss}, min_keys=["loss"])
        else:
            self.hparams.train_logger.log_stats({"Epoch loaded": 0}, test_stats={"mse": stage_loss})


if __name__ == "__main__":
    hparams, run_opts = begin()
    train, valid, test = tone_datasets()
    brain = MetricGanBrain(
        modules=hparams["modules"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.train_set, brain.history, brain.sub_stage = train, {}, SubStage.GENERATOR
    brain.fit(
        brain.hparams.epoch_counter,
        train,
        valid,
        train_loader_kwargs=hparams["loader"],
        valid_loader_kwargs={"batch_size": 1},
    )
    record("returned", loss=brain.evaluate(test, min_key="loss"))
    record_weights("final", brain.modules)
