"""A small transformer with CTC: Noam at each step, accumulation, averaged checkpoints.

With `--stop_after_epoch N` the first run ends there, as if killed, and the second one recovers.
"""

import sys
from pathlib import Path

import speechbrain as sb
from beginning import begin
from clips import audio_datasets, label_encoder, phone_items
from record import record, record_weights


class ASR(sb.core.Brain):
    def compute_forward(self, batch, stage):
        batch = batch.to(self.device)
        wavs, lengths = batch.sig
        features = self.modules.normalize(
            self.hparams.compute_features(wavs), lengths, epoch=self.hparams.epoch_counter.current
        )
        source = self.modules.CNN(features)
        encoded, decoded = self.modules.Transformer(
            source, batch.tokens_bos.data, lengths, pad_idx=self.hparams.pad_index
        )
        p_ctc = self.hparams.log_softmax(self.modules.ctc_lin(encoded))
        p_seq = self.hparams.log_softmax(self.modules.seq_lin(decoded))
        return p_ctc, p_seq, lengths

    def compute_objectives(self, predictions, batch, stage):
        p_ctc, p_seq, lengths = predictions
        loss_seq = self.hparams.seq_cost(p_seq, batch.tokens_eos.data, batch.tokens_eos.lengths)
        loss_ctc = self.hparams.ctc_cost(p_ctc, batch.tokens.data, lengths, batch.tokens.lengths)
        loss = 0.3 * loss_ctc + 0.7 * loss_seq
        record(stage.name, loss=loss, step=self.step, updates=self.optimizer_step)
        if stage != sb.Stage.TRAIN:
            self.acc_metric.append(p_seq, batch.tokens_eos.data, batch.tokens_eos.lengths)
        return loss

    def on_stage_start(self, stage, epoch=None):
        if stage != sb.Stage.TRAIN:
            self.acc_metric = self.hparams.acc_computer()

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        if should_step:
            self.hparams.noam_annealing(self.optimizer)
            record("noam", lr=self.optimizer.param_groups[0]["lr"])

    def on_stage_end(self, stage, stage_loss, epoch=None):
        record(f"end {stage.name}", loss=stage_loss, epoch=epoch)
        stats = {"loss": stage_loss}
        if stage == sb.Stage.TRAIN:
            self.train_stats = stats
            return
        stats["ACC"] = self.acc_metric.summarize()
        if stage == sb.Stage.VALID:
            self.hparams.train_logger.log_stats(
                stats_meta={
                    "epoch": epoch,
                    "lr": self.hparams.noam_annealing.current_lr,
                    "steps": self.hparams.noam_annealing.n_steps,
                },
                train_stats=self.train_stats,
                valid_stats=stats,
            )
            self.checkpointer.save_and_keep_only(
                meta={"ACC": stats["ACC"], "epoch": epoch}, max_keys=["ACC"], num_to_keep=2
            )
            if epoch == self.hparams.stop_after_epoch and not Path("stopped").exists():
                Path("stopped").touch()
                sys.exit(3)
        else:
            self.hparams.train_logger.log_stats(
                stats_meta={"Epoch loaded": self.hparams.epoch_counter.current}, test_stats=stats
            )
            # The averaged model, kept as if it were the best.
            self.checkpointer.save_and_keep_only(
                meta={"ACC": 1.1, "epoch": epoch}, max_keys=["ACC"], num_to_keep=1
            )

    def on_evaluate_start(self, max_key=None, min_key=None):
        super().on_evaluate_start()
        checkpoints = self.checkpointer.find_checkpoints(max_key=max_key, min_key=min_key)
        record("averaging", count=len(checkpoints))
        averaged = sb.utils.checkpoints.average_checkpoints(checkpoints, recoverable_name="model")
        self.hparams.model.load_state_dict(averaged, strict=True)
        self.hparams.model.eval()


if __name__ == "__main__":
    hparams, run_opts = begin()
    encoder = label_encoder(hparams["data_folder"], hparams["output_folder"])
    outputs = ["id", "sig", "tokens_bos", "tokens_eos", "tokens"]
    train, valid, test = audio_datasets(hparams["data_folder"], outputs, [phone_items(encoder)])
    train = train.filtered_sorted(sort_key="duration", key_max_value={"duration": 2.8})
    asr_brain = ASR(
        modules=hparams["modules"],
        opt_class=hparams["Adam"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    asr_brain.fit(
        asr_brain.hparams.epoch_counter,
        train,
        valid,
        train_loader_kwargs={"batch_size": 2, "shuffle": True},
        valid_loader_kwargs={"batch_size": 2},
    )
    record("counts", step=asr_brain.step, updates=asr_brain.optimizer_step)
    asr_brain.evaluate(test, max_key="ACC", test_loader_kwargs={"batch_size": 1})
    record_weights("final", asr_brain.modules)
