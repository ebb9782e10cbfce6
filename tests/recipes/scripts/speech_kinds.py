"""Transducer, speaker identification, voice activity and language model; `--recipe` chooses."""

import speechbrain as sb
import torch
from beginning import begin
from clips import audio_datasets, label_encoder, phone_items, read_clips
from record import record, record_weights
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.utils.metric_stats import BinaryMetricStats, ErrorRateStats, MetricStats
from torch.utils.data import DataLoader


class SpeechBrain(sb.Brain):
    """What the four have in common."""

    loader = {"batch_size": 2}

    def on_stage_end(self, stage, stage_loss, epoch=None):
        record(f"end {stage.name}", loss=stage_loss, epoch=epoch)
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            return
        stats = {"loss": stage_loss, **self.metrics(stage)}
        if stage == sb.Stage.TEST:
            self.hparams.train_logger.log_stats({"Epoch loaded": 0}, test_stats=stats)
            return
        old_lr, new_lr = self.hparams.lr_annealing(epoch)
        sb.nnet.schedulers.update_learning_rate(self.optimizer, new_lr)
        self.hparams.train_logger.log_stats(
            {"epoch": epoch, "lr": old_lr}, {"loss": self.train_loss}, stats
        )
        self.checkpointer.save_and_keep_only(meta=stats, min_keys=["loss"])

    def metrics(self, stage):
        return {}

    def encode(self, batch, stage):
        wavs, lengths = batch.to(self.device).sig
        if stage == sb.Stage.TRAIN:
            wavs = self.hparams.augment(wavs.unsqueeze(-1)).squeeze(-1)
        features = self.modules.normalize(self.hparams.compute_features(wavs), lengths)
        return self.modules.encoder(features), lengths

    def datasets(self, folder, output_folder):
        return audio_datasets(folder)

    def run(self):
        train, valid, test = self.datasets(self.hparams.data_folder, self.hparams.output_folder)
        train_kwargs = {**self.loader, "shuffle": True}
        self.fit(self.hparams.epoch_counter, train, valid, None, train_kwargs, self.loader)
        self.evaluate(test, min_key="loss", test_loader_kwargs=dict(self.loader))


def transducer_loss(log_probs, tokens, frames, token_counts, blank=0):
    """The mean negative log-likelihood; SpeechBrain's needs numba, torchaudio's is not built."""
    blanks = log_probs[..., blank]
    labels = (
        log_probs[:, :, :-1]
        .gather(-1, tokens[:, None, :, None].expand_as(log_probs[:, :, :-1, :1]))
        .squeeze(-1)
    )
    # stays[b, t, u]: the log-probability of t blanks in a row after u labels
    stays = torch.nn.functional.pad(blanks.cumsum(1)[:, :-1], (0, 0, 1, 0))
    forward = stays[:, :, 0]
    ends = [forward]
    for index in range(tokens.shape[1]):
        arrivals = forward + labels[:, :, index] - stays[:, :, index + 1]
        forward = stays[:, :, index + 1] + arrivals.logcumsumexp(1)
        ends.append(forward)
    rows = torch.arange(len(tokens))
    total = torch.stack(ends, dim=-1)[rows, frames - 1, token_counts]
    return -(total + blanks[rows, frames - 1, token_counts]).mean()


class TransducerBrain(SpeechBrain):
    def datasets(self, folder, output_folder):
        self.encoder_of_phones = label_encoder(folder, output_folder)
        outputs = ["id", "sig", "phones", "tokens", "tokens_bos"]
        return audio_datasets(folder, outputs, [phone_items(self.encoder_of_phones)])

    def compute_forward(self, batch, stage):
        encoded, lengths = self.encode(batch, stage)
        predicted, _ = self.hparams.predictor(self.hparams.embedding(batch.tokens_bos.data))
        joint = self.hparams.joint(encoded.unsqueeze(2), predicted.unsqueeze(1))
        return self.modules.output(joint), lengths

    def compute_objectives(self, predictions, batch, stage):
        logits, lengths = predictions
        tokens, token_lengths = batch.tokens
        loss = transducer_loss(
            logits.log_softmax(-1),
            tokens,
            (lengths * logits.shape[1]).round().long(),
            (token_lengths * tokens.shape[1]).round().long(),
        )
        record(stage.name, loss=loss, step=self.step)
        if stage != sb.Stage.TRAIN:
            best = logits[:, :, 0].argmax(dim=-1)
            found = [self.encoder_of_phones.decode_ndim(row[row != 0]) for row in best]
            self.errors.append(batch.id, found, batch.phones)
        return loss

    def on_stage_start(self, stage, epoch=None):
        self.errors = ErrorRateStats()

    def metrics(self, stage):
        return {"PER": self.errors.summarize("error_rate")}


class SpeakerBrain(SpeechBrain):
    def datasets(self, folder, output_folder):
        encoder = sb.dataio.encoder.CategoricalEncoder()

        @sb.utils.data_pipeline.takes("spk_id")
        @sb.utils.data_pipeline.provides("spk_id", "speaker")
        def speaker(spk_id):
            yield spk_id
            yield torch.LongTensor([encoder.encode_label(spk_id)])

        sets = audio_datasets(folder, ["id", "sig", "speaker"], [speaker])
        encoder.load_or_create(
            path=f"{output_folder}/speakers.txt", from_didatasets=[sets[0]], output_key="spk_id"
        )
        return sets

    def compute_forward(self, batch, stage):
        encoded, lengths = self.encode(batch, stage)
        return self.modules.speaker(self.hparams.pooling(encoded, lengths)).log_softmax(-1)

    def compute_objectives(self, predictions, batch, stage):
        loss = sb.nnet.losses.nll_loss(predictions, batch.speaker.data)
        record(stage.name, loss=loss, step=self.step)
        if stage != sb.Stage.TRAIN:
            self.errors.append(batch.id, predictions, batch.speaker.data)
        elif hasattr(self.hparams.cyclic, "on_batch_end"):
            self.hparams.cyclic.on_batch_end(self.optimizer)
            record("rate", lr=float(self.optimizer.param_groups[0]["lr"]))
        return loss

    def on_stage_start(self, stage, epoch=None):
        self.errors = MetricStats(
            metric=lambda found, target: (found[:, 0].argmax(-1) != target[:, 0]).float()
        )

    def metrics(self, stage):
        if stage == sb.Stage.VALID:
            self.hparams.stopper.update_metric(float(self.errors.summarize("average")))
        return {"error": self.errors.summarize("average")}

    def run(self):
        self.hparams.epoch_counter = self.hparams.stopper
        self.checkpointer.add_recoverable("counter", self.hparams.stopper)
        super().run()


class VADBrain(SpeechBrain):
    def compute_forward(self, batch, stage):
        encoded, lengths = self.encode(batch, stage)
        return self.modules.activity(encoded).squeeze(-1), lengths

    def compute_objectives(self, predictions, batch, stage):
        logits, lengths = predictions
        frames = batch.sig.data[:, : logits.shape[1] * 640].unfold(1, 640, 640).pow(2).mean(-1)
        targets = (frames > frames.median()).float()
        loss = sb.nnet.losses.bce_loss(
            logits[:, : targets.shape[1]], targets, lengths, pos_weight=torch.tensor(1.5)
        )
        record(stage.name, loss=loss, step=self.step)
        if stage != sb.Stage.TRAIN:
            scores = torch.sigmoid(logits[:, : targets.shape[1]]).reshape(-1)
            ids = [str(number) for number in range(len(scores))]
            self.activity.append(ids, scores, targets.reshape(-1))
        return loss

    def on_stage_start(self, stage, epoch=None):
        self.activity = BinaryMetricStats()

    def metrics(self, stage):
        summary = self.activity.summarize(threshold=0.5)
        return {"F-score": summary["F-score"], "precision": summary["precision"]}


class LMBrain(SpeechBrain):
    def datasets(self, folder, output_folder):
        texts = [clip["char"].replace(" ", "") for clip in read_clips(folder).values()]
        examples = [
            {"id": str(number), "tokens": torch.tensor([ord(char) - 96 for char in text])}
            for number, text in enumerate(texts)
        ]
        return [
            DataLoader(part, batch_size=2, collate_fn=PaddedBatch)
            for part in (examples[:6], examples[6:8], examples[8:])
        ]

    def compute_forward(self, batch, stage):
        return self.hparams.rnnlm(batch.tokens.data[:, :-1].to(self.device)).log_softmax(-1)

    def compute_objectives(self, predictions, batch, stage):
        loss = sb.nnet.losses.nll_loss(
            predictions, batch.tokens.data[:, 1:], length=batch.tokens.lengths
        )
        record(stage.name, loss=loss, step=self.step)
        return loss

    def fit_batch(self, batch):
        loss = super().fit_batch(batch)
        record("after", step=self.step, rate=self.optimizer.param_groups[0]["lr"])
        return loss

    def run(self):
        train, valid, test = self.datasets(self.hparams.data_folder, "")
        self.fit(self.hparams.epoch_counter, train, valid)
        record("perplexity", value=float(torch.tensor(self.evaluate(test)).exp()))


RECIPES = {
    "transducer": (TransducerBrain, ["encoder", "embedding", "predictor", "output"]),
    "speaker": (SpeakerBrain, ["encoder", "speaker"]),
    "vad": (VADBrain, ["encoder", "activity"]),
    "lm": (LMBrain, ["rnnlm"]),
}


if __name__ == "__main__":
    hparams, run_opts = begin()
    chosen, names = RECIPES[hparams["recipe"]]
    modules = {name: hparams[name] for name in [*names, "normalize"]}
    hparams["checkpointer"].add_recoverables(modules)
    brain = chosen(
        modules=modules,
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.run()
    record_weights("final", brain.modules)
