"""More recipes in the manner of SpeechBrain's tasks, a behaviour or two each; `--recipe` chooses.

With `--stop_at_step N` the first run ends before that batch of epoch two, as if killed.
"""

import csv
import sys
from pathlib import Path

import speechbrain as sb
import torch
from beginning import tone_datasets
from clips import made_tones
from hyperpyyaml import load_hyperpyyaml
from record import record, record_weights
from speechbrain.augment.augmenter import Augmenter
from speechbrain.augment.time_domain import AddNoise, DropChunk, DropFreq
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataloader import SaveableDataLoader, make_dataloader
from speechbrain.dataio.sampler import ReproducibleRandomSampler
from speechbrain.inference.interfaces import Pretrained
from speechbrain.processing.features import InputNormalization
from speechbrain.utils import hpopt as hp
from speechbrain.utils.distributed import if_main_process, main_process_only, run_on_main
from tqdm import tqdm


class ToneBrain(sb.Brain):
    """Enhancement of tones; what the others have in common."""

    def compute_forward(self, batch, stage):
        batch = batch.to(self.device)
        noisy = batch.noisy.data
        return self.modules.generator(noisy.unsqueeze(-1)).squeeze(-1)

    def compute_objectives(self, predictions, batch, stage):
        loss = self.hparams.mse(predictions, batch.clean.data.to(predictions.device))
        record(stage.name, loss=loss, step=self.step, updates=self.optimizer_step)
        return loss

    def fit_batch(self, batch):
        mark = Path("stopped")
        is_second = self.hparams.epoch_counter.current == 2
        if self.step == self.hparams.stop_at_step and is_second and not mark.exists():
            mark.touch()
            sys.exit(3)
        return super().fit_batch(batch)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        record(f"end {stage.name}", loss=float(stage_loss), epoch=epoch, step=self.step)
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
        elif stage == sb.Stage.VALID:
            self.hparams.train_logger.log_stats(
                {"epoch": epoch}, {"loss": self.train_loss}, {"loss": stage_loss}
            )
            self.checkpointer.save_and_keep_only(meta={"loss": stage_loss}, min_keys=["loss"])

    def run(self, train, valid, test):
        self.fit(self.hparams.epoch_counter, train, valid, None, self.hparams.loader)
        record("returned", loss=self.evaluate(test, min_key="loss"))


class NoiseBrain(ToneBrain):
    """Augmentation by SpeechBrain's own loaders of noise, and labels repeated for it."""

    def compute_forward(self, batch, stage):
        batch = batch.to(self.device)
        wavs, lengths = batch.noisy
        if stage == sb.Stage.TRAIN:
            wavs, lengths = self.hparams.wav_augment(wavs, lengths)
            batch.noisy = wavs, lengths
            record("augmented", wavs=wavs, lengths=lengths)
        return self.modules.generator(wavs.unsqueeze(-1)).squeeze(-1)

    def compute_objectives(self, predictions, batch, stage):
        clean = batch.clean.data
        if stage == sb.Stage.TRAIN:
            clean = self.hparams.wav_augment.replicate_labels(clean)
        loss = self.hparams.mse(predictions, clean[:, : predictions.shape[1]])
        record(stage.name, loss=loss, shape=predictions.shape, step=self.step)
        return loss

    def run(self, train, valid, test):
        write_noises(self.hparams.output_folder)
        noise = AddNoise(csv_file=f"{self.hparams.output_folder}/noise.csv", snr_low=0, snr_high=15)
        self.hparams.wav_augment = Augmenter(
            concat_original=True,
            min_augmentations=1,
            max_augmentations=2,
            shuffle_augmentations=True,
            augmentations=[
                noise,
                DropChunk(drop_length_high=200),
                DropFreq(),
            ],
        )
        super().run(train, valid, test)


def write_noises(folder):
    import soundfile

    rows = []
    for index, tone in enumerate(made_tones(3, length=2000, seed=4).values()):
        path = f"{folder}/noise{index}.wav"
        soundfile.write(path, tone["noisy"].numpy(), 16000)
        rows.append([f"noise{index}", 0.125, path, "wav", ""])
    with open(f"{folder}/noise.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["ID", "duration", "wav", "wav_format", "wav_opts"], *rows])


class TranscribingBrain(ToneBrain):
    """An evaluation loop of the script's own, as in tutorials, and one that is overridden."""

    def transcribe(self, dataset, min_key, loader_kwargs):
        if not isinstance(dataset, torch.utils.data.DataLoader):
            loader_kwargs["ckpt_prefix"] = None
            dataset = self.make_dataloader(dataset, sb.Stage.TEST, **loader_kwargs)
        self.on_evaluate_start(min_key=min_key)
        self.modules.eval()
        with torch.no_grad():
            for batch in tqdm(dataset, dynamic_ncols=True):
                out = self.compute_forward(batch, stage=sb.Stage.TEST)
                record("transcribed", out=out, ids=batch.id)

    def evaluate(
        self, test_set, max_key=None, min_key=None, progressbar=None, test_loader_kwargs=None
    ):
        test_loader_kwargs = {} if test_loader_kwargs is None else test_loader_kwargs
        if progressbar is None:
            progressbar = not self.noprogressbar
        if not isinstance(test_set, torch.utils.data.DataLoader):
            test_loader_kwargs["ckpt_prefix"] = None
            test_set = self.make_dataloader(test_set, sb.Stage.TEST, **test_loader_kwargs)
        self.on_evaluate_start(max_key=max_key, min_key=min_key)
        self.on_stage_start(sb.Stage.TEST, epoch=None)
        self.modules.eval()
        average = 0.0
        with torch.no_grad():
            for batch in tqdm(test_set, disable=not progressbar):
                self.step += 1
                loss = self.evaluate_batch(batch, stage=sb.Stage.TEST)
                average = self.update_average(loss, average)
                if self.debug and self.step == self.debug_batches:
                    break
            run_on_main(self.on_stage_end, args=[sb.Stage.TEST, average, None])
        self.step = 0
        return average

    def run(self, train, valid, test):
        super().run(train, valid, test)
        self.transcribe(test, "loss", {"batch_size": 1})
        own = make_dataloader(test, batch_size=2, shuffle=True)
        record("shuffled", ids=[batch.id for batch in own])
        record("again", ids=[batch.id for batch in own])


class NormalizingBrain(ToneBrain):
    """__init__ of its own; global normalization; saves by hand; finds, loads, deletes."""

    def __init__(self, *args, extra=3, **kwargs):
        super().__init__(*args, **kwargs)
        self.extra = extra
        self.normalize = InputNormalization(norm_type="global")
        self.checkpointer.add_recoverable("normalizer", self.normalize)
        self.labels = sb.dataio.encoder.CategoricalEncoder()
        self.labels.update_from_iterable(["low", "high"])
        self.checkpointer.add_recoverable("labels", self.labels)

    def compute_forward(self, batch, stage):
        batch = batch.to(self.device)
        noisy, lengths = batch.noisy
        frames = noisy.reshape(len(noisy), -1, 40)
        epoch = self.hparams.epoch_counter.current
        self.normalize.train(stage == sb.Stage.TRAIN)
        frames = self.normalize(frames, lengths, epoch=epoch)
        return self.modules.generator(frames.reshape(len(noisy), -1, 1)).squeeze(-1)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        record(f"end {stage.name}", loss=stage_loss, training=self.modules.training)
        if stage == sb.Stage.TRAIN:
            self.checkpointer.save_checkpoint(
                meta={"error": float(stage_loss), "kind": "train"}, end_of_epoch=False
            )
        if stage == sb.Stage.VALID:
            self.checkpointer.save_and_keep_only(
                meta={"error": stage_loss, "kind": "valid", "epoch": epoch},
                min_keys=["error"],
                max_keys=["epoch"],
                num_to_keep=2,
                ckpt_predicate=lambda found: found.meta.get("kind") == "valid",
            )

    def run(self, train, valid, test):
        self.fit(self.hparams.epoch_counter, train, valid, False, self.hparams.loader)
        pointer = self.checkpointer
        record("listed", kinds=sorted(str(c.meta.get("kind")) for c in pointer.list_checkpoints()))
        found = pointer.find_checkpoint(min_key="error")
        record("found", epoch=found.meta.get("epoch"), files=sorted(found.paramfiles))
        pointer.load_checkpoint(found)
        record_weights("loaded", {"n": self.modules.generator})
        pointer.delete_checkpoints(num_to_keep=1, min_keys=["error"])
        record("left", count=len(pointer.list_checkpoints()), labels=self.labels.lab2ind)
        record("returned", loss=self.evaluate(test, progressbar=False))


class CollatingBrain(ToneBrain):
    """Loaders of the recipe's own with its own batch class; interval checkpoints; other rates."""

    def on_fit_start(self):
        super().on_fit_start()
        if if_main_process():
            record("rates", rates=[group["lr"] for group in self.optimizer.param_groups])

    def init_optimizers(self):
        self.optimizer = self.opt_class(
            [
                {"params": self.modules.generator["conv1"].parameters()},
                {"params": self.modules.generator["conv2"].parameters(), "lr": 0.02},
            ]
        )
        self.plateau = sb.nnet.schedulers.ReduceLROnPlateau(patience=0, factor=0.5)
        self.warmup = sb.nnet.schedulers.WarmAndExpDecayLRSchedule(0.01, 2, 20)
        self.optimizers_dict = {"all": self.optimizer}
        for name in ("optimizer", "plateau", "warmup"):
            self.checkpointer.add_recoverable(name, getattr(self, name))

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        if should_step:
            self.warmup(self.optimizer)
            record("rates", rates=[group["lr"] for group in self.optimizer.param_groups])
            self.save_sample(outputs)

    @main_process_only
    def save_sample(self, outputs):
        self.last_sample = outputs.detach()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        super().on_stage_end(stage, stage_loss, epoch)
        if stage == sb.Stage.VALID:
            old, new = self.plateau([self.optimizer], epoch, stage_loss)
            sb.nnet.schedulers.update_learning_rate(self.optimizer, new)
            record("annealed", old=old, new=new, sample=self.last_sample)

    def run(self, train, valid, test):
        sampler = ReproducibleRandomSampler(train, seed=5)
        self.train_sampler = sampler
        loader = SaveableDataLoader(train, batch_size=2, sampler=sampler, collate_fn=ReversedBatch)
        self.checkpointer.add_recoverable("my_loader", loader)
        plain = {"batch_size": 1, "collate_fn": ReversedBatch}
        self.fit(self.hparams.epoch_counter, loader, valid, None, {}, plain)
        more = sb.utils.epoch_loop.EpochCounter(limit=1)
        self.fit(more, loader, valid, valid_loader_kwargs=plain)
        record("returned", loss=self.evaluate(test, test_loader_kwargs=dict(plain)))


class ReversedBatch(PaddedBatch):
    """Examples in reverse; padded with a value of its own."""

    def __init__(self, examples):
        super().__init__(examples[::-1], padding_kwargs={"value": 0.5})


class Enhancer(Pretrained):
    """An inference class, as recipes of speech synthesis use in the middle of training."""

    MODULES_NEEDED = ["generator"]

    def enhance(self, noisy):
        return self.mods.generator(noisy.unsqueeze(-1)).squeeze(-1)


class SamplingBrain(ToneBrain):
    """Saves samples and TensorBoard logs; builds an inference model while it trains."""

    def on_stage_start(self, stage, epoch=None):
        if stage == sb.Stage.VALID:
            self.hparams.samples.reset()

    def compute_objectives(self, predictions, batch, stage):
        loss = super().compute_objectives(predictions, batch, stage)
        if stage == sb.Stage.VALID:
            self.hparams.samples.remember(
                raw=self.hparams.samples.get_batch_sample({"out": predictions[0].detach()})
            )
        return loss

    def on_stage_end(self, stage, stage_loss, epoch=None):
        super().on_stage_end(stage, stage_loss, epoch)
        if stage != sb.Stage.VALID:
            return
        self.hparams.samples.save(epoch)
        enhancer = Enhancer(
            modules={"generator": self.modules.generator},
            hparams={"sample_rate": 16000},
            run_opts={"device": self.device},
            freeze_params=False,
        )
        record("inferred", out=enhancer.enhance(torch.ones(1, 50)), mode=enhancer.mods.training)
        self.modules.generator.train(False)

    def run(self, train, valid, test):
        folder = f"{self.hparams.output_folder}/samples"
        self.hparams.samples = sb.utils.train_logger.ProgressSampleLogger(
            folder, batch_sample_size=1, formats={"raw": "raw"}
        )
        super().run(train, valid, test)


class ProfiledBrain(ToneBrain):
    """Two networks behind one optimizer, one in eval mode; a zero_grad in the middle."""

    def on_stage_start(self, stage, epoch=None):
        record("modes", names=[name for name, each in self.modules.items() if each.training])
        self.modules.discriminator.eval()
        for parameter in self.modules.discriminator.parameters():
            parameter.requires_grad_(stage == sb.Stage.TRAIN and epoch == 2)

    def on_fit_batch_start(self, batch, should_step):
        record("start", stepping=should_step, training=self.modules.training)
        self.modules.discriminator.eval()

    def compute_objectives(self, predictions, batch, stage):
        loss = super().compute_objectives(predictions, batch, stage)
        pair = torch.stack([predictions, batch.clean.data], dim=-1)
        return loss + 0.1 * self.modules.discriminator(pair).pow(2).mean()

    def check_gradients(self):
        record("gradients", names=[n for n, p in self.modules.named_parameters() if p.grad is None])
        return super().check_gradients()

    def update_average(self, loss, avg_loss):
        return super().update_average(loss * 2, avg_loss)

    def evaluate_batch(self, batch, stage):
        loss = super().evaluate_batch(batch, stage)
        record("evaluated", loss=loss, grad=torch.is_grad_enabled())
        return loss


class SteppingBrain(ToneBrain):
    """Validates after each second update, and saves there."""

    train_loss = 0.0

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        if self.optimizer_step % 2 == 0:
            step = self.step
            self._fit_valid(
                valid_set=self.often, epoch=self.hparams.epoch_counter.current, enable=False
            )
            self.step = step
            self.modules.train()

    def run(self, train, valid, test):
        self.often = sb.dataio.dataloader.make_dataloader(valid, batch_size=1)
        super().run(train, valid, test)


RECIPES = {
    "stepping": SteppingBrain,
    "noise": NoiseBrain,
    "transcribe": TranscribingBrain,
    "normalize": NormalizingBrain,
    "collate": CollatingBrain,
    "samples": SamplingBrain,
    "profile": ProfiledBrain,
}


if __name__ == "__main__":
    with hp.hyperparameter_optimization(objective_key="loss") as hp_ctx:
        hparams_file, run_opts, overrides = hp_ctx.parse_arguments(sys.argv[1:])
        sb.utils.distributed.ddp_init_group(run_opts)
        with open(hparams_file, encoding="utf-8") as file:
            hparams = load_hyperpyyaml(file, overrides)
        hparams.update(run_opts)
        sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)
        train, valid, test = tone_datasets()
        brain = RECIPES[hparams["recipe"]](
            hparams["modules"],
            hparams["opt_class"],
            hparams,
            run_opts=run_opts,
            checkpointer=hparams["checkpointer"],
        )
        brain.run(train, valid, test)
        record_weights("final", brain.modules)
        hp.report_result({"loss": float(brain.avg_train_loss)})
        record("options", device=brain.device, precision=hparams["precision"])
