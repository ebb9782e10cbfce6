"""Separation: fit_batch and evaluate_batch own autocast, scaler, clipping and bad losses."""

import csv

import speechbrain as sb
import torch
from beginning import begin
from clips import read_clips
from record import record, record_weights
from speechbrain.dataio.dataio import read_audio


class SeparationBrain(sb.Brain):
    def compute_forward(self, mix, targets, stage, noise=None):
        mix = mix.to(self.device)
        targets = torch.stack([target.to(self.device) for target in targets], dim=-1)
        if stage == sb.Stage.TRAIN:
            mix = mix + 0.001 * torch.randn_like(mix)
        encoded = self.modules.encoder(mix)
        masks = self.modules.masknet(encoded)
        separated = torch.stack([self.modules.decoder(encoded * mask) for mask in masks], dim=-1)
        return separated[:, : targets.shape[1]], targets[:, : separated.shape[1]]

    def compute_objectives(self, predictions, targets):
        return self.hparams.loss(targets, predictions)

    def fit_batch(self, batch):
        should_step = self.step % self.grad_accumulation_factor == 0
        with self.no_sync(not should_step):
            with self.training_ctx:
                predictions, targets = self.compute_forward(
                    batch.mix.data, [batch.one.data, batch.two.data], sb.Stage.TRAIN
                )
                losses = self.compute_objectives(predictions, targets)
                keep = losses[losses > self.hparams.threshold]
                loss = keep.mean() if len(keep) > 0 else losses.mean() * 0.0
            record("train", loss=loss.float(), kept=len(keep), step=self.step)
            if loss.nelement() > 0 and loss < self.hparams.loss_upper_limit:
                self.scaler.scale(loss).backward()
                if self.hparams.clip_grad_norm >= 0:
                    self.scaler.unscale_(self.optimizer)
                    torch.nn.utils.clip_grad_norm_(
                        self.modules.parameters(), self.hparams.clip_grad_norm
                    )
                self.scaler.step(self.optimizer)
                self.scaler.update()
            else:
                self.nonfinite_count += 1
                record("bad", count=self.nonfinite_count)
                loss.data = torch.tensor(0.0).to(self.device)
        self.optimizer.zero_grad()
        return loss.detach().cpu()

    def evaluate_batch(self, batch, stage):
        with torch.no_grad():
            predictions, targets = self.compute_forward(
                batch.mix.data, [batch.one.data, batch.two.data], stage
            )
            loss = self.compute_objectives(predictions, targets).mean()
        record(stage.name, loss=loss)
        if stage == sb.Stage.TEST:
            self.rows.append([batch.id[0], f"{loss.item():.6f}"])
        return loss.detach()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        record(f"end {stage.name}", loss=stage_loss, epoch=epoch)
        stats = {"si-snr": stage_loss}
        if stage == sb.Stage.TRAIN:
            self.train_stats = stats
        elif stage == sb.Stage.VALID:
            lr, next_lr = self.hparams.lr_scheduler([self.optimizer], epoch, stage_loss)
            sb.nnet.schedulers.update_learning_rate(self.optimizer, next_lr)
            self.hparams.train_logger.log_stats(
                stats_meta={"epoch": epoch, "lr": lr},
                train_stats=self.train_stats,
                valid_stats=stats,
            )
            self.checkpointer.save_and_keep_only(meta={"si-snr": stage_loss}, min_keys=["si-snr"])
        else:
            self.hparams.train_logger.log_stats(
                stats_meta={"Epoch loaded": self.hparams.epoch_counter.current}, test_stats=stats
            )


def mixtures(folder, speakers=("spk1", "spk2"), seconds=0.4):
    """Mixtures of the two speakers' clips, numbered from 1 to 5."""
    count = int(seconds * 16000)
    clips = read_clips(folder)
    examples = {}
    for number in range(1, 6):
        one, two = (
            read_audio(clips[f"{speaker}_snt{number}"]["wav"])[8000 : 8000 + count]
            for speaker in speakers
        )
        examples[f"mix{number}"] = {"mix": one + two, "one": one, "two": two}
    return examples


if __name__ == "__main__":
    hparams, run_opts = begin()
    examples = mixtures(hparams["data_folder"])
    sets = [
        sb.dataio.dataset.DynamicItemDataset(
            {name: examples[name] for name in names}, output_keys=["id", "mix", "one", "two"]
        )
        for names in (["mix1", "mix2", "mix3"], ["mix4"], ["mix5"])
    ]
    separator = SeparationBrain(
        modules=hparams["modules"],
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    for module in separator.modules.values():
        for parameter in module.parameters():
            if parameter.dim() > 2:
                torch.nn.init.xavier_uniform_(parameter)
    separator.rows = []
    separator.fit(
        separator.hparams.epoch_counter,
        sets[0],
        sets[1],
        train_loader_kwargs=hparams["dataloader_opts"],
        valid_loader_kwargs=hparams["dataloader_opts"],
    )
    separator.evaluate(sets[2], min_key="si-snr")
    with open(f"{hparams['output_folder']}/test_results.csv", "w", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "si-snr"], *separator.rows])
    record_weights("final", separator.modules)
