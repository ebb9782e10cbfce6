"""Attention seq2seq: a pretrained encoder, beam search in validation and test, error rates."""

from pathlib import Path

import speechbrain as sb
import torch
from beginning import begin
from clips import audio_datasets, label_encoder, phone_items
from record import record, record_weights
from speechbrain.utils.distributed import if_main_process, run_on_main


class Seq2SeqBrain(sb.Brain):
    def compute_forward(self, batch, stage):
        batch = batch.to(self.device)
        wavs, lengths = batch.sig
        features = self.modules.normalize(self.hparams.compute_features(wavs), lengths)
        encoded = self.modules.enc(features)
        embedded = self.modules.emb(batch.tokens_bos.data)
        hidden, _ = self.modules.dec(embedded, encoded, lengths)
        p_seq = self.hparams.log_softmax(self.modules.seq_lin(hidden))
        hypotheses = None
        if stage != sb.Stage.TRAIN:
            hypotheses, _, scores, _ = self.hparams.beam_search(encoded, lengths)
            record("beam", scores=scores, words=hypotheses)
        return p_seq, hypotheses

    def compute_objectives(self, predictions, batch, stage):
        p_seq, hypotheses = predictions
        tokens_eos, lengths = batch.tokens_eos
        loss = self.hparams.seq_cost(p_seq, tokens_eos, lengths)
        record(stage.name, loss=loss, step=self.step)
        if stage != sb.Stage.TRAIN:
            found = [self.encoder.decode_ndim(sequence) for sequence in hypotheses]
            self.wer_metric.append(batch.id, found, batch.phones)
        return loss

    def on_stage_start(self, stage, epoch=None):
        if stage != sb.Stage.TRAIN:
            self.wer_metric = self.hparams.error_rate_computer()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        record(f"end {stage.name}", loss=stage_loss, epoch=epoch)
        stats = {"loss": stage_loss}
        if stage == sb.Stage.TRAIN:
            self.train_stats = stats
            return
        stats["PER"] = self.wer_metric.summarize("error_rate")
        if stage == sb.Stage.VALID:
            old_lr, new_lr = self.hparams.lr_annealing(stats["PER"])
            sb.nnet.schedulers.update_learning_rate(self.optimizer, new_lr)
            self.hparams.train_logger.log_stats(
                stats_meta={"epoch": epoch, "lr": old_lr},
                train_stats=self.train_stats,
                valid_stats=stats,
            )
            self.checkpointer.save_and_keep_only(meta={"PER": stats["PER"]}, min_keys=["PER"])
            return
        self.hparams.train_logger.log_stats({"Epoch loaded": 0}, test_stats=stats)
        if if_main_process():
            with open(self.hparams.test_wer_file, "w", encoding="utf-8") as file:
                self.wer_metric.write_stats(file)


def make_pretrained(folder):
    """A file as somebody else might have trained it."""
    path = Path(folder) / "enc.ckpt"
    path.parent.mkdir(exist_ok=True)
    torch.manual_seed(5)
    weights = {
        name: torch.randn_like(value) * 0.2 if value.is_floating_point() else value
        for name, value in hparams["enc"].state_dict().items()
    }
    torch.save(weights, path)


if __name__ == "__main__":
    hparams, run_opts = begin()
    encoder = label_encoder(hparams["data_folder"], hparams["output_folder"])
    outputs = ["id", "sig", "phones", "tokens_bos", "tokens_eos"]
    train, valid, test = audio_datasets(hparams["data_folder"], outputs, [phone_items(encoder)])
    run_on_main(make_pretrained, args=[hparams["pretrained_folder"]])
    run_on_main(hparams["pretrainer"].collect_files)
    hparams["pretrainer"].load_collected()
    brain = Seq2SeqBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.encoder = encoder
    loader = {"batch_size": 2, "num_workers": 0}
    brain.fit(
        brain.hparams.epoch_counter,
        train.filtered_sorted(sort_key="duration", select_n=4),
        valid,
        train_loader_kwargs={**loader, "shuffle": False},
        valid_loader_kwargs=loader,
    )
    for name, data in (("first", test), ("second", valid)):
        brain.hparams.test_wer_file = f"{hparams['output_folder']}/wer_{name}.txt"
        brain.evaluate(data, min_key="PER", test_loader_kwargs=loader)
    record_weights("final", brain.modules)
