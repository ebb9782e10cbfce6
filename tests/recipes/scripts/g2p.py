"""Like G2P: several Brains on one Checkpointer, each prepared by hand, the epochs by hand."""

import speechbrain as sb
import torch
from beginning import begin, tone_datasets
from record import record, record_weights


class StepBrain(sb.Brain):
    def __init__(self, train_step_name, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.train_step_name = train_step_name

    def compute_forward(self, batch, stage):
        return self.modules.generator(batch.noisy.data.unsqueeze(-1)).squeeze(-1)

    def compute_objectives(self, predictions, batch, stage):
        loss = self.hparams.mse(predictions, batch.clean.data)
        record(f"{self.train_step_name} {stage.name}", loss=loss, updates=self.optimizer_step)
        return loss

    def on_fit_start(self):
        if self.optimizers_dict is None:
            self.prepare()

    def prepare(self):
        self._compile()
        self._wrap_distributed()
        self.init_optimizers()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        record(f"end {stage.name}", loss=stage_loss, epoch=epoch)
        if stage == sb.Stage.VALID and self.checkpointer is not None:
            checkpoint = self.checkpointer.save_and_keep_only(
                meta={"loss": stage_loss, "step": self.train_step_name},
                min_keys=["loss"],
                ckpt_predicate=lambda found: found.meta.get("step") == self.train_step_name,
            )
            assert checkpoint is None
            self.hparams.train_logger.log_stats(
                {"step": self.train_step_name, "epoch": epoch}, valid_stats={"loss": stage_loss}
            )


if __name__ == "__main__":
    hparams, run_opts = begin()
    train, valid, test = tone_datasets()
    for name, rate in (("letters", 0.01), ("words", 0.003)):
        brain = StepBrain(
            name,
            modules={"generator": hparams["generator"]},
            opt_class=lambda parameters, rate=rate: torch.optim.Adam(parameters, lr=rate),
            hparams=hparams,
            run_opts=run_opts,
            checkpointer=hparams["checkpointer"],
        )
        brain.prepare()
        hparams["checkpointer"].recover_if_possible(
            min_key="loss", ckpt_predicate=lambda found, name=name: found.meta.get("step") == name
        )
        epochs = sb.utils.epoch_loop.EpochCounter(2)
        brain.fit(epochs, train, valid, train_loader_kwargs=hparams["loader"])
        hparams["checkpointer"].recover_if_possible(
            min_key="loss", ckpt_predicate=lambda found, name=name: found.meta.get("step") == name
        )
        record("tested", loss=brain.evaluate(test))
    record_weights("final", brain.modules)
