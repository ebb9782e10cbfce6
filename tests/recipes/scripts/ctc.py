"""CTC on a small CRDNN: filter banks, normalization, dynamic batches, NewBob, error rates."""

import sys

import speechbrain as sb
import torch
from clips import audio_datasets, label_encoder, phone_items
from hyperpyyaml import load_hyperpyyaml
from record import record, record_weights
from speechbrain.dataio.sampler import DynamicBatchSampler
from speechbrain.utils.distributed import if_main_process


class CTCBrain(sb.Brain):
    def compute_forward(self, batch, stage):
        batch = batch.to(self.device)
        wavs, lengths = batch.sig
        features = self.hparams.compute_features(wavs)
        features = self.modules.normalize(features, lengths)
        if stage == sb.Stage.TRAIN:
            features = features + 0.01 * torch.randn_like(features)
        return self.hparams.log_softmax(self.modules.output(self.modules.model(features))), lengths

    def compute_objectives(self, predictions, batch, stage):
        log_probs, lengths = predictions
        tokens, token_lengths = batch.tokens
        loss = self.hparams.ctc_cost(log_probs, tokens, lengths, token_lengths)
        record(stage.name, loss=loss, step=self.step, names=",".join(batch.id))
        if stage != sb.Stage.TRAIN:
            sequences = sb.decoders.ctc_greedy_decode(
                log_probs, lengths, blank_id=self.hparams.blank_index
            )
            self.error_rates.append(
                ids=batch.id,
                predict=sequences,
                target=tokens,
                target_len=token_lengths,
                ind2lab=self.label_encoder.decode_ndim,
            )
        return loss

    def on_stage_start(self, stage, epoch=None):
        if stage != sb.Stage.TRAIN:
            self.error_rates = self.hparams.error_rate_stats()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        record(f"end {stage.name}", loss=stage_loss, epoch=epoch)
        if stage == sb.Stage.TRAIN:
            self.train_stats = {"loss": stage_loss}
            return
        stats = {"loss": stage_loss, "PER": self.error_rates.summarize("error_rate")}
        if stage == sb.Stage.VALID:
            old_lr, new_lr = self.hparams.lr_annealing(stats["loss"])
            sb.nnet.schedulers.update_learning_rate(self.optimizer, new_lr)
            self.hparams.train_logger.log_stats(
                stats_meta={"epoch": epoch, "lr": old_lr},
                train_stats=self.train_stats,
                valid_stats=stats,
            )
            self.checkpointer.save_and_keep_only(meta={"PER": stats["PER"]}, min_keys=["PER"])
            return
        self.hparams.train_logger.log_stats(
            stats_meta={"Epoch loaded": self.hparams.epoch_counter.current}, test_stats=stats
        )
        if if_main_process():
            with open(self.hparams.test_per_file, "w", encoding="utf-8") as file:
                self.error_rates.write_stats(file)


if __name__ == "__main__":
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    sb.utils.distributed.ddp_init_group(run_opts)
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    encoder = label_encoder(hparams["data_folder"], hparams["output_folder"])
    train, valid, test = audio_datasets(
        hparams["data_folder"], ["id", "sig", "tokens"], [phone_items(encoder)]
    )
    sampler = DynamicBatchSampler(train, **hparams["dynamic_batches"])
    brain = CTCBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.label_encoder = encoder
    loader_kwargs = {**hparams["loader"], "batch_sampler": sampler}
    brain.fit(
        brain.hparams.epoch_counter,
        train,
        valid,
        train_loader_kwargs=loader_kwargs,
        valid_loader_kwargs=hparams["test_loader"],
    )
    brain.evaluate(test, min_key="PER", test_loader_kwargs=hparams["test_loader"])
    record_weights("final", brain.modules)
