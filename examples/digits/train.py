#!/usr/bin/env python3
"""Recipe that learns to read handwritten digits.

To run it:
> python train.py hparams.yaml

Calling it again with the same output folder goes on where the last call stopped.
"""

import sys

from digits_data import prepare_digits
from hyperpyyaml import load_hyperpyyaml

import brain_lightning as bl


class DigitsBrain(bl.Brain):
    def compute_forward(self, batch, stage):
        images, _ = batch
        return self.modules.model(images.to(self.device))

    def compute_objectives(self, predictions, batch, stage):
        _, digits = batch
        digits = digits.to(self.device)
        if stage != bl.Stage.TRAIN:
            self.correct += (predictions.argmax(dim=-1) == digits).sum().item()
            self.seen += len(digits)
        return self.hparams.compute_cost(predictions, digits)

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
                {"epoch": epoch, "lr": self.hparams.learning_rate},
                train_stats={"loss": self.train_loss},
                valid_stats=stats,
            )
            self.checkpointer.save_and_keep_only(
                meta={"accuracy": stats["accuracy"]}, max_keys=["accuracy"]
            )
        else:
            self.hparams.train_logger.log_stats(
                {"Epoch loaded": self.hparams.epoch_counter.current},
                test_stats=stats,
            )


def main():
    hparams_file, run_opts, overrides = bl.parse_arguments(sys.argv[1:])
    bl.ddp_init_group(run_opts)

    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)

    bl.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )

    digits = prepare_digits()
    brain = DigitsBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.fit(
        brain.hparams.epoch_counter,
        digits["train"],
        digits["valid"],
        train_loader_kwargs=hparams["train_loader_options"],
        valid_loader_kwargs=hparams["valid_loader_options"],
    )
    brain.evaluate(
        digits["test"],
        max_key="accuracy",
        test_loader_kwargs=hparams["valid_loader_options"],
    )


if __name__ == "__main__":
    main()
