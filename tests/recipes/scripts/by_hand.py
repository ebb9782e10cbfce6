"""Brain's methods called by the script: a loop of its own, then steps, then `fit()` behind them."""

import sys
from pathlib import Path

import speechbrain as sb
import torch
from beginning import begin, tone_datasets
from record import record, record_weights


class ByHandBrain(sb.core.Brain):
    def compute_forward(self, batch, stage):
        batch = batch.to(self.device)
        return self.modules.generator(batch.noisy.data.unsqueeze(-1)).squeeze(-1)

    def compute_objectives(self, predictions, batch, stage):
        loss = self.hparams.mse(predictions, batch.clean.data)
        record(stage.name, loss=loss, step=self.step, updates=self.optimizer_step)
        return loss

    def fit_batch(self, batch):
        loss = sb.core.Brain.fit_batch(self, batch)
        record("fit_batch", loss=loss, training=self.modules.training)
        return loss

    def on_fit_batch_start(self, batch, should_step):
        record("start", should_step=should_step)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        record(f"end {stage.name}", loss=float(stage_loss), epoch=epoch)


def own_loop(brain, train, hparams):
    brain.on_fit_start()
    loader = brain.make_dataloader(train, sb.Stage.TRAIN, batch_size=2, shuffle=True)
    for epoch in hparams["epoch_counter"]:
        brain.on_stage_start(sb.Stage.TRAIN, epoch)
        brain.modules.train()
        for brain.step, batch in enumerate(loader, 1):
            loss = brain.fit_batch(batch)
            brain.avg_train_loss = brain.update_average(loss, brain.avg_train_loss)
        brain.on_stage_end(sb.Stage.TRAIN, brain.avg_train_loss, epoch)
        brain.avg_train_loss, brain.step = 0.0, 0
        brain.modules.eval()
        with torch.no_grad():
            for batch in loader:
                brain.evaluate_batch(batch, sb.Stage.VALID)
        brain.checkpointer.save_and_keep_only({"epoch": epoch}, max_keys=["epoch"])
    return next(iter(loader))


def own_step(brain, batch):
    brain.modules.train()
    loss = brain.compute_objectives(
        brain.compute_forward(batch, sb.Stage.TRAIN), batch, sb.Stage.TRAIN
    )
    brain.check_loss_isfinite(loss)
    loss.backward()
    record("gradients", are_fine=brain.check_gradients())
    brain.optimizers_step()
    brain.zero_grad()
    for inactive in (True, False):
        with brain.no_sync(inactive):
            brain.fit_batch(batch)


def main():
    hparams, run_opts = begin()
    train, valid, test = tone_datasets()
    brain = ByHandBrain(
        {"generator": hparams["generator"]},
        hparams["opt_class"],
        hparams,
        run_opts,
        hparams["checkpointer"],
    )
    batch = own_loop(brain, train, hparams)
    own_step(brain, batch)
    brain.fit(range(1, 3), train, valid, train_loader_kwargs={"batch_size": 3})
    brain._fit_valid(brain.make_dataloader(valid, sb.Stage.VALID), 7, False)
    record("test", loss=brain.evaluate(brain.make_dataloader(test, sb.Stage.TEST), max_key="epoch"))
    brain.fit([1, 1, 0], train, train_loader_kwargs={"batch_size": 3})
    record("left", updates=brain.optimizer_step, script=Path(sys.argv[0]).name)
    record_weights("final", brain.modules)


if __name__ == "__main__":
    main()
