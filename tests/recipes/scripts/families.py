"""Recipes as SpeechBrain writes them for further tasks, on its own lobes; `--recipe` chooses."""

import pathlib
from functools import partial

import speechbrain as sb
import torch
from beginning import begin
from clips import audio_datasets, label_encoder, phone_items
from record import record, record_weights
from speechbrain.dataio.dataloader import SaveableDataLoader
from speechbrain.lobes.models.Tacotron2 import TextMelCollate
from speechbrain.lobes.models.wav2vec import sample_negatives, w2v_mask_collate_fn
from speechbrain.nnet.schedulers import update_learning_rate
from speechbrain.utils.data_utils import scalarize

LENGTH = 9600


class FamilyBrain(sb.Brain):
    """What the brains below have in common."""

    def on_stage_end(self, stage, stage_loss, epoch=None):
        record(f"end {stage.name}", loss=float(stage_loss), epoch=epoch)
        if stage == sb.Stage.TRAIN:
            self.train_stats = {"loss": stage_loss}
        elif stage == sb.Stage.VALID:
            self.hparams.train_logger.log_stats(
                {"epoch": epoch, "lr": self.rate()}, self.train_stats, {"loss": stage_loss}
            )
            self.checkpointer.save_and_keep_only(meta={"loss": stage_loss}, min_keys=["loss"])

    def rate(self):
        return self.optimizer.param_groups[0]["lr"]

    def fit_and_evaluate(self, train, valid, test, loader):
        self.fit(
            self.hparams.epoch_counter,
            train,
            valid,
            train_loader_kwargs={**self.hparams.loader, **loader},
            valid_loader_kwargs=loader,
        )
        self.evaluate(test, min_key="loss", test_loader_kwargs=loader)


class RecognizerBrain(FamilyBrain):
    """CTC on filter banks, which several brains below begin with."""

    def compute_forward(self, batch, stage):
        batch = batch.to(self.device)
        wavs, self.lengths = batch.sig
        return self.recognize(wavs)

    def recognize(self, wavs):
        encoded, _ = self.modules.asr["enc"](self.hparams.compute_features(wavs))
        return self.modules.asr["lin"](encoded).log_softmax(-1)

    def compute_objectives(self, predictions, batch, stage):
        tokens, token_lengths = batch.tokens
        loss = self.hparams.ctc_cost(predictions, tokens, self.lengths, token_lengths)
        record(stage.name, loss=loss, step=self.step, updates=self.optimizer_step)
        return loss


class ContinualBrain(RecognizerBrain):
    """One Brain after another on a layer that grows, bound to the weights before."""

    def compute_objectives(self, predictions, batch, stage):
        loss = super().compute_objectives(predictions, batch, stage)
        for name, parameter in self.modules.asr.named_parameters():
            before = self.hparams.before.get(name)
            if stage == sb.Stage.TRAIN and before is not None and before.shape == parameter.shape:
                loss = loss + 0.1 * ((parameter - before) ** 2).sum()
        return loss

    @classmethod
    def main(cls, hparams, run_opts, sets):
        hparams["before"] = {}
        for speaker in ("spk1", "spk2"):
            grow(hparams["model"]["lin"])
            folder = pathlib.Path(hparams["save_folder"]) / speaker
            folder.mkdir(parents=True, exist_ok=True)
            hparams["checkpointer"].checkpoints_dir = folder
            hparams["epoch_counter"].current = 0
            own = [
                each.filtered_sorted(key_test={"spk_id": partial(str.__eq__, speaker)})
                for each in sets
            ]
            brain = cls(
                {"asr": hparams["model"]},
                hparams["opt_class"],
                hparams,
                run_opts,
                hparams["checkpointer"],
            )
            brain.fit_and_evaluate(*own, {"batch_size": 2})
            # Without a checkpointer, as a test on the languages before does it:
            other = cls({"asr": hparams["model"]}, hparams=hparams, run_opts=run_opts)
            record("all", loss=float(other.evaluate(sets[2], min_key="loss")))
            hparams["before"] = {
                name: parameter.detach().clone()
                for name, parameter in hparams["model"].named_parameters()
            }
            hparams["model"]["enc"].requires_grad_(False)
        return brain


def grow(linear):
    """Add one output to SpeechBrain's Linear, as a new language adds tokens."""
    old = linear.w
    linear.w = torch.nn.Linear(old.in_features, old.out_features + 1)
    with torch.no_grad():
        linear.w.weight[: old.out_features] = old.weight
        linear.w.bias[: old.out_features] = old.bias


class JointBrain(RecognizerBrain):
    """An enhancer before the recognizer, frozen at first, with an optimizer each."""

    def init_optimizers(self):
        self.asr_optimizer = self.hparams.opt_class(self.hparams.model.parameters())
        self.enhance_optimizer = self.hparams.other_opt_class(self.modules.enhancer.parameters())
        self.optimizers_dict = {"asr": self.asr_optimizer, "enhance": self.enhance_optimizer}
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("asr_opt", self.asr_optimizer)
            self.checkpointer.add_recoverable("enhance_opt", self.enhance_optimizer)

    def freeze_optimizers(self, optimizers):
        chosen = {"asr": optimizers["asr"]}
        if self.hparams.unfreeze:
            chosen["enhance"] = optimizers["enhance"]
        return chosen

    def rate(self):
        return self.asr_optimizer.param_groups[0]["lr"]

    def enhance(self, wavs):
        spectra = self.hparams.compute_stft(wavs)
        magnitudes = sb.processing.features.spectral_magnitude(spectra, power=0.5)
        mask = torch.sigmoid(self.modules.enhancer(torch.log1p(magnitudes)))
        return self.hparams.compute_istft(spectra * mask.unsqueeze(-1), sig_length=wavs.shape[1])

    def compute_forward(self, batch, stage):
        batch = batch.to(self.device)
        clean, self.lengths = batch.sig
        with torch.set_grad_enabled(self.hparams.unfreeze and torch.is_grad_enabled()):
            self.enhanced = self.enhance(clean + self.hparams.noise * torch.randn_like(clean))
        return self.recognize(self.enhanced)

    def compute_objectives(self, predictions, batch, stage):
        loss = super().compute_objectives(predictions, batch, stage)
        clean, lengths = batch.sig
        return loss + 10 * sb.nnet.losses.mse_loss(self.enhanced, clean, lengths)

    def fit_batch(self, batch):
        self.hparams.unfreeze = self.optimizer_step >= 2
        should_step = self.step % self.grad_accumulation_factor == 0
        with self.no_sync(not should_step):
            with self.training_ctx:
                outputs = self.compute_forward(batch, sb.Stage.TRAIN)
                loss = self.compute_objectives(outputs, batch, sb.Stage.TRAIN)
            scaled = self.scaler.scale(loss / self.grad_accumulation_factor)
            self.check_loss_isfinite(scaled)
            scaled.backward()
        if should_step:
            self.optimizers_step()
            self.hparams.noam(self.asr_optimizer)
        return loss.detach().cpu()

    @classmethod
    def main(cls, hparams, run_opts, sets):
        modules = {"asr": hparams["model"], "enhancer": hparams["enhancer"]}
        brain = cls(modules, None, hparams, run_opts, hparams["checkpointer"])
        brain.fit_and_evaluate(*sets, {"batch_size": 2})
        # A second Brain on the same modules, with hyperparameters of its own, only evaluates.
        second = cls(modules, None, {**hparams, "noise": 0.0}, run_opts, hparams["checkpointer"])
        record("second", loss=float(second.evaluate(sets[2], min_key="loss")))
        return brain


class EmotionBrain(FamilyBrain):
    """Two optimizers that optimizers_dict does not know; fit_batch in the older fashion."""

    def compute_forward(self, batch, stage):
        wavs, lengths = batch.to(self.device).sig
        frames = self.modules.latent_extractor(wavs)
        pooled = self.hparams.pool(frames, lengths).flatten(1)
        return self.modules.classifier(pooled).log_softmax(-1)

    def compute_objectives(self, predictions, batch, stage):
        loss = sb.nnet.losses.nll_loss(predictions, batch.speaker.data.squeeze(-1))
        record(stage.name, loss=loss, step=self.step, updates=self.optimizer_step)
        return loss

    def fit_batch(self, batch):
        loss = self.compute_objectives(
            self.compute_forward(batch, sb.Stage.TRAIN), batch, sb.Stage.TRAIN
        )
        loss.backward()
        self.check_loss_isfinite(loss)
        self.check_gradients()
        self.wav2vec2_optimizer.step()
        self.optimizer.step()
        self.zero_grad()
        return loss.detach().cpu()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        super().on_stage_end(stage, stage_loss, epoch)
        if stage == sb.Stage.VALID:
            for optimizer in (self.optimizer, self.wav2vec2_optimizer):
                update_learning_rate(optimizer, self.hparams.new_bob(stage_loss)[1])

    def init_optimizers(self):
        self.wav2vec2_optimizer = self.hparams.other_opt_class(
            self.modules.latent_extractor.parameters()
        )
        self.optimizer = self.hparams.opt_class(self.hparams.classifier.parameters())
        self.checkpointer.add_recoverable("wav2vec2_opt", self.wav2vec2_optimizer)
        self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def zero_grad(self, set_to_none=False):
        self.wav2vec2_optimizer.zero_grad(set_to_none)
        self.optimizer.zero_grad(set_to_none)

    @classmethod
    def main(cls, hparams, run_opts, sets):
        modules = {key: hparams[key] for key in ("latent_extractor", "classifier")}
        brain = cls(modules, hparams["opt_class"], hparams, run_opts, hparams["checkpointer"])
        brain.fit_and_evaluate(*sets, {"batch_size": 2, "num_workers": 1})
        return brain


class SynthesizerBrain(FamilyBrain):
    """Tacotron 2: fit_batch wraps super(), losses by stage, inference inside of a stage's end."""

    def on_fit_start(self):
        self.last_epoch, self.stats = 0, {}
        return super().on_fit_start()

    def compute_forward(self, batch, stage):
        text, text_lengths, mel, gate, mel_lengths, *_ = batch
        self.inputs = (text, text_lengths, mel, int(text_lengths.max()), mel_lengths)
        self.targets = (mel, gate)
        return self.modules.tacotron(self.inputs, alignments_dim=self.inputs[3])

    def compute_objectives(self, predictions, batch, stage):
        losses = self.hparams.criterion(
            predictions, self.targets, self.inputs[1], self.inputs[4], self.last_epoch
        )
        self.stats[stage] = scalarize(losses)
        record(stage.name, **self.stats[stage], step=self.step)
        return losses.loss

    def fit_batch(self, batch):
        result = super().fit_batch(batch)
        self.hparams.intervals(self.optimizer)
        return result

    def on_stage_end(self, stage, stage_loss, epoch=None):
        if stage == sb.Stage.VALID:
            self.last_epoch = epoch
            self.hparams.train_logger.log_stats(
                {"epoch": epoch, "lr": self.rate()},
                self.stats[sb.Stage.TRAIN],
                self.stats[sb.Stage.VALID],
            )
            self.checkpointer.save_and_keep_only(
                meta={"epoch": epoch, **self.stats[stage]},
                min_keys=["loss"],
                ckpt_predicate=lambda checkpoint: checkpoint.meta["epoch"] % 2 != 0,
            )
        if stage != sb.Stage.TRAIN:
            made, _, _ = self.hparams.tacotron.infer(self.inputs[0][:1], self.inputs[1][:1])
            record("inferred", mel=made, training=self.modules.training)

    @classmethod
    def main(cls, hparams, run_opts, sets):
        brain = cls(
            {"tacotron": hparams["tacotron"]},
            hparams["opt_class"],
            hparams,
            run_opts,
            hparams["checkpointer"],
        )
        brain.fit_and_evaluate(*sets, {"batch_size": 2, "collate_fn": TextMelCollate()})
        return brain


class PretrainingBrain(FamilyBrain):
    """wav2vec 2.0: masks drawn by the collate function, a codebook that cools with the steps."""

    def compute_forward(self, batch, stage):
        wavs, lengths, mask = (each.to(self.device) for each in batch)
        latents = self.modules.latent_extractor(wavs, normalize_signal=False)
        results = self.modules.latent_encoder(latents, mask=mask, wav_lens=lengths)
        masked = self.modules.projection(results["embeddings"][mask])
        results["embeddings"] = masked.view(len(wavs), -1, masked.shape[1])
        latents = latents[mask].view(len(wavs), -1, latents.shape[2])
        results["targets"], meta = self.modules.quantiser(latents)
        return {**results, **meta}

    def compute_objectives(self, predictions, batch, stage):
        negatives = sample_negatives(predictions["targets"], 5)
        loss, accuracy = self.hparams.contrastive(
            predictions["embeddings"], predictions["targets"], negatives
        )
        record(stage.name, loss=loss, step=self.step, updates=self.optimizer_step)
        return {"loss": loss, "accuracy": accuracy, "diversity": predictions["diversity_loss"]}

    def fit_batch(self, batch):
        should_step = self.step % self.grad_accumulation_factor == 0
        with self.no_sync(not should_step):
            with self.training_ctx:
                outputs = self.compute_forward(batch, sb.Stage.TRAIN)
                objectives = self.compute_objectives(outputs, batch, sb.Stage.TRAIN)
            loss = objectives["loss"] + 0.1 * objectives["diversity"] * outputs["targets"].shape[1]
            self.scaler.scale(loss / self.grad_accumulation_factor).backward()
        if should_step:
            self.optimizers_step()
        self.on_fit_batch_end(objectives)
        return objectives["loss"].detach()

    def on_fit_batch_end(self, objectives):
        self.modules.quantiser.quantiser.update_temp(self.optimizer_step)
        self.hparams.noam(self.optimizer)
        if self.optimizer_step % 2 == 0:
            self.hparams.train_logger.log_stats(
                {"steps": self.optimizer_step}, {"avg_loss": float(self.avg_train_loss)}
            )

    def evaluate_batch(self, batch, stage):
        objectives = self.compute_objectives(self.compute_forward(batch, stage), batch, stage)
        return objectives["loss"].detach().cpu()

    @classmethod
    def main(cls, hparams, run_opts, sets):
        collate = partial(
            w2v_mask_collate_fn,
            get_out_len_fn=partial(latent_lengths, hparams["kernels"], hparams["strides"]),
            mask_prob=0.6,
            mask_length=3,
        )
        sampler = sb.dataio.sampler.DynamicBatchSampler(
            sets[0], 7, num_buckets=2, length_func=lambda clip: clip["duration"], shuffle=True
        )
        loaders = [
            SaveableDataLoader(sets[0], batch_sampler=sampler, collate_fn=collate),
            SaveableDataLoader(sets[1], batch_size=2, collate_fn=collate),
        ]
        names = ("latent_extractor", "latent_encoder", "projection", "quantiser")
        modules = {name: hparams[name] for name in names}
        brain = cls(modules, hparams["opt_class"], hparams, run_opts, hparams["checkpointer"])
        brain.fit(hparams["epoch_counter"], *loaders, progressbar=False)
        return brain


def latent_lengths(kernels, strides, length):
    for kernel, stride in zip(kernels, strides, strict=True):
        length = torch.floor((length - kernel) / stride + 1)
    return length.to(torch.long)


@sb.utils.data_pipeline.takes("sig", "tokens", "phn")
@sb.utils.data_pipeline.provides("mel_text_pair", "label")
def mel_item(sig, tokens, phn):
    text = tokens[:8].int()
    spectrum = torch.stft(sig, 512, 256, window=torch.hann_window(512), return_complex=True)
    yield text, torch.log(spectrum.abs()[1:17] + 1e-5), len(text)
    yield phn


@sb.utils.data_pipeline.takes("spk_id")
@sb.utils.data_pipeline.provides("speaker")
def speaker_item(spk_id):
    return torch.LongTensor([int(spk_id[-1]) - 1])


@sb.utils.data_pipeline.takes("wav")
@sb.utils.data_pipeline.provides("sig")
def short_audio(wav):
    return sb.dataio.dataio.read_audio(wav)[8000 : 8000 + LENGTH]


RECIPES = {
    "continual": (ContinualBrain, ["id", "sig", "tokens"]),
    "joint": (JointBrain, ["id", "sig", "tokens"]),
    "emotion": (EmotionBrain, ["id", "sig", "speaker"]),
    "synthesizer": (SynthesizerBrain, ["mel_text_pair", "label", "wav"]),
    "pretraining": (PretrainingBrain, ["id", "sig"]),
}


if __name__ == "__main__":
    hparams, run_opts = begin()
    encoder = label_encoder(hparams["data_folder"], hparams["output_folder"])
    chosen, outputs = RECIPES[hparams["recipe"]]
    items = (short_audio, phone_items(encoder), mel_item, speaker_item)
    brain = chosen.main(hparams, run_opts, audio_datasets(hparams["data_folder"], outputs, items))
    record_weights("final", brain.modules)
