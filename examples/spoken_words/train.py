#!/usr/bin/env python3
"""Recipe that learns to tell the label of a clip: the word said in it, or who says it.

To run it:
> python train.py hparams.yaml --data_folder FOLDER

with FOLDER/<label>/*.wav or FOLDER/<label>_*.wav.
"""

import sys

from hyperpyyaml import load_hyperpyyaml
from labelled_clips import ClipFolderError, LabelledClips, split_clips

import brain_lightning as bl


class ClipBrain(bl.Brain):
    def compute_forward(self, batch, stage):
        batch = batch.to(self.device)
        signals, lengths = batch.signal
        features, mask = self.modules.compute_features(signals, lengths)
        return self.modules.model(features, mask)

    def compute_objectives(self, predictions, batch, stage):
        labels = batch.label.to(self.device)
        if stage != bl.Stage.TRAIN:
            self.correct += (predictions.argmax(dim=-1) == labels).sum().item()
            self.seen += len(labels)
        return self.hparams.compute_cost(predictions, labels)

    def on_stage_start(self, stage, epoch=None):
        self.correct = 0
        self.seen = 0

    def on_stage_end(self, stage, stage_loss, epoch=None):
        if stage == bl.Stage.TRAIN:
            self.train_loss = stage_loss
            return

        stats = {"loss": stage_loss, "accuracy": self.correct / self.seen}
        if stage == bl.Stage.VALID:
            self.hparams.train_logger.log_stats(
                {"epoch": epoch},
                train_stats={"loss": self.train_loss},
                valid_stats=stats,
            )
            self.checkpointer.save_and_keep_only(meta={"loss": stats["loss"]}, min_keys=["loss"])
        else:
            self.hparams.train_logger.log_stats(
                {"Epoch loaded": self.hparams.epoch_counter.current},
                test_stats=stats,
            )


def main():
    hparams_file, run_opts, overrides = bl.parse_arguments(sys.argv[1:])
    bl.ddp_init_group(run_opts)

    try:
        with open(hparams_file, encoding="utf-8") as file:
            hparams = load_hyperpyyaml(file, overrides)
    except ClipFolderError as error:
        raise SystemExit(str(error)) from None

    bl.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )

    clips = {
        name: LabelledClips(part, hparams["labels"], hparams["sample_rate"])
        for name, part in split_clips(hparams["clips"]).items()
    }
    brain = ClipBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.fit(
        brain.hparams.epoch_counter,
        clips["train"],
        clips["valid"],
        train_loader_kwargs=hparams["train_loader_options"],
        valid_loader_kwargs=hparams["valid_loader_options"],
    )
    brain.evaluate(
        clips["test"],
        min_key="loss",
        test_loader_kwargs=hparams["valid_loader_options"],
    )


if __name__ == "__main__":
    main()
