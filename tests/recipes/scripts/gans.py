"""Vocoders and enhancers with two optimizers; `--recipe` chooses how their fit_batch does it."""

import speechbrain as sb
import torch
from beginning import begin, tone_datasets
from record import record, record_weights


class GanBrain(sb.Brain):
    """What the three have in common."""

    def compute_forward(self, batch, stage):
        batch = batch.to(self.device)
        return self.modules.generator(batch.noisy.data.unsqueeze(-1)).squeeze(-1)

    def judge(self, signal, clean):
        return self.modules.discriminator(torch.stack([signal, clean], dim=-1)).reshape(-1)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        record(f"end {stage.name}", loss=float(stage_loss), epoch=epoch)
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
        if stage != sb.Stage.VALID:
            return
        old_lr, new_lr = self.hparams.lr_scheduler(epoch)
        for optimizer in self.live_optimizers():
            sb.nnet.schedulers.update_learning_rate(optimizer, new_lr)
        self.hparams.train_logger.log_stats(
            {"epoch": epoch, "lr": old_lr}, {"loss": self.train_loss}, {"loss": stage_loss}
        )
        self.checkpointer.save_and_keep_only(
            meta={"epoch": epoch}, end_of_epoch=True, max_keys=["epoch"], num_to_keep=2
        )

    def live_optimizers(self):
        return [self.optimizer_g, self.optimizer_d]


class HifiGanBrain(GanBrain):
    """opt_class is a list; the losses are a dictionary; the discriminator comes first."""

    def compute_objectives(self, predictions, batch, stage):
        clean = batch.clean.data
        fake, real = self.judge(predictions.detach(), clean), self.judge(clean, clean)
        d_loss = (fake**2).mean() + ((1 - real) ** 2).mean()
        score = self.judge(predictions, clean)
        g_loss = self.hparams.mse(predictions, clean) + 0.1 * ((1 - score) ** 2).mean()
        record(stage.name, d=d_loss, g=g_loss, step=self.step, updates=self.optimizer_step)
        return {"D_loss": d_loss, "G_loss": g_loss}

    def fit_batch(self, batch):
        outputs = self.compute_forward(batch, sb.Stage.TRAIN)
        d_loss = self.compute_objectives(outputs, batch, sb.Stage.TRAIN)["D_loss"]
        self.optimizer_d.zero_grad()
        d_loss.backward()
        self.optimizer_d.step()
        g_loss = self.compute_objectives(outputs, batch, sb.Stage.TRAIN)["G_loss"]
        self.optimizer_g.zero_grad()
        g_loss.backward()
        self.optimizer_g.step()
        return g_loss.detach().cpu()

    def evaluate_batch(self, batch, stage):
        outputs = self.compute_forward(batch, stage=stage)
        return self.compute_objectives(outputs, batch, stage)["G_loss"].detach().cpu()

    def init_optimizers(self):
        g_class, d_class = self.opt_class
        self.optimizer_g = g_class(self.modules.generator.parameters())
        self.optimizer_d = d_class(self.modules.discriminator.parameters())
        self.optimizers_dict = {"optimizer_g": self.optimizer_g, "optimizer_d": self.optimizer_d}
        self.checkpointer.add_recoverable("optimizer_g", self.optimizer_g)
        self.checkpointer.add_recoverable("optimizer_d", self.optimizer_d)


class SeganBrain(GanBrain):
    """Three updates for a batch on one graph; the returned loss still has it."""

    def compute_objectives(self, predictions, batch, stage, optim_name=""):
        clean, noisy = batch.clean.data, batch.noisy.data
        if optim_name == "D1":
            loss = ((1 - self.judge(clean, noisy)) ** 2).mean()
        elif optim_name == "D2":
            loss = (self.judge(predictions.detach(), noisy) ** 2).mean()
        else:
            loss = self.hparams.mse(predictions, clean)
            if stage == sb.Stage.TRAIN:
                loss = loss + 0.01 * ((1 - self.judge(predictions, noisy)) ** 2).mean()
        record(optim_name or stage.name, loss=loss, step=self.step)
        return loss

    def fit_batch(self, batch):
        self.optimizer_d.zero_grad()
        predictions = self.compute_forward(batch, sb.Stage.TRAIN)
        self.compute_objectives(predictions, batch, sb.Stage.TRAIN, "D1").backward()
        torch.nn.utils.clip_grad_norm_(self.modules["discriminator"].parameters(), 0.5)
        self.optimizer_d.step()
        self.optimizer_d.zero_grad()
        d2_loss = self.compute_objectives(predictions, batch, sb.Stage.TRAIN, "D2")
        d2_loss.backward(retain_graph=True)
        torch.nn.utils.clip_grad_norm_(self.modules["discriminator"].parameters(), 0.5)
        self.optimizer_d.step()
        self.optimizer_g.zero_grad()
        g_loss = self.compute_objectives(predictions, batch, sb.Stage.TRAIN, "G3")
        g_loss.backward(retain_graph=True)
        torch.nn.utils.clip_grad_norm_(self.modules["generator"].parameters(), 0.5)
        self.optimizer_g.step()
        return g_loss

    def init_optimizers(self):
        self.optimizer_g = self.hparams.g_opt_class(self.modules["generator"].parameters())
        self.optimizer_d = self.hparams.d_opt_class(self.modules["discriminator"].parameters())

    def zero_grad(self, set_to_none=False):
        self.optimizer_g.zero_grad(set_to_none)
        self.optimizer_d.zero_grad(set_to_none)


class CodecBrain(GanBrain):
    """Neither compute_forward nor compute_objectives; two scaler.step, one update; own step."""

    compute_forward = sb.Brain.compute_forward
    compute_objectives = sb.Brain.compute_objectives

    def fit_batch(self, batch):
        batch = batch.to(self.device)
        amp = sb.utils.autocast.AMPConfig.from_name(self.precision)
        with torch.autocast(dtype=amp.dtype, device_type=torch.device(self.device).type):
            predictions = self.modules.generator(batch.noisy.data.unsqueeze(-1)).squeeze(-1)
        predictions = predictions.float()
        clean = batch.clean.data
        d_loss = (self.judge(predictions.detach(), clean) ** 2).mean()
        self.optimizer_d.zero_grad()
        self.scaler.scale(d_loss).backward()
        self.scaler.step(self.optimizer_d)
        g_loss = self.hparams.mse(predictions, clean) - 0.01 * self.judge(predictions, clean).mean()
        self.optimizer_g.zero_grad()
        self.scaler.scale(g_loss).backward()
        self.scaler.step(self.optimizer_g)
        self.scaler.update()
        record("train", d=d_loss, g=g_loss, step=self.step, updates=self.optimizer_step)
        self.optimizer_step += 1
        self.step = self.optimizer_step
        return g_loss.detach().cpu()

    def evaluate_batch(self, batch, stage):
        with torch.no_grad():
            predictions = self.modules.generator(batch.noisy.data.unsqueeze(-1)).squeeze(-1)
            loss = self.hparams.mse(predictions, batch.clean.data)
        record(stage.name, loss=loss, step=self.step)
        return loss

    def init_optimizers(self):
        self.optimizer_g = self.hparams.g_opt_class(self.hparams.generator.parameters())
        self.optimizer_d = self.hparams.d_opt_class(self.hparams.discriminator.parameters())
        self.optimizers_dict = {"g": self.optimizer_g, "d": self.optimizer_d}


class DiffusionBrain(GanBrain):
    """no_sync around each backward, several optimizers, their rates stepped inside fit_batch."""

    def compute_objectives(self, predictions, batch, stage):
        noise = torch.randn_like(predictions) if stage == sb.Stage.TRAIN else 0.0
        loss = self.hparams.mse(predictions + 0.01 * noise, batch.clean.data)
        adversarial = (self.judge(predictions, batch.noisy.data) ** 2).mean()
        record(stage.name, loss=loss, adversarial=adversarial, step=self.step)
        return loss if stage != sb.Stage.TRAIN else (loss, adversarial)

    def fit_batch(self, batch):
        should_step = self.step % self.grad_accumulation_factor == 0
        self.on_fit_batch_start(batch, should_step)
        with self.training_ctx:
            outputs = self.compute_forward(batch, sb.Stage.TRAIN)
            loss, adversarial = self.compute_objectives(outputs, batch, sb.Stage.TRAIN)
        with self.no_sync(not should_step):
            scaled = self.scaler.scale(loss / self.grad_accumulation_factor)
            self.check_loss_isfinite(scaled)
            scaled.backward(retain_graph=True)
        with self.no_sync(not should_step):
            self.scaler.scale(adversarial / self.grad_accumulation_factor).backward()
        if should_step:
            self.optimizers_step()
            for optimizer in self.live_optimizers():
                for group in optimizer.param_groups:
                    group["lr"] *= 0.9
        self.on_fit_batch_end(batch, outputs, loss, should_step)
        return loss.detach().cpu()

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        record("batch end", stepped=should_step, updates=self.optimizer_step)

    init_optimizers = CodecBrain.init_optimizers


RECIPES = {
    "hifigan": HifiGanBrain,
    "segan": SeganBrain,
    "codec": CodecBrain,
    "diffusion": DiffusionBrain,
}


if __name__ == "__main__":
    hparams, run_opts = begin()
    train, valid, test = tone_datasets()
    brain = RECIPES[hparams["recipe"]](
        modules=hparams["modules"],
        opt_class=[hparams["g_opt_class"], hparams["d_opt_class"]],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.fit(
        brain.hparams.epoch_counter,
        train,
        valid,
        train_loader_kwargs=hparams["loader"],
        valid_loader_kwargs={"batch_size": 2},
    )
    record("counts", step=brain.step, updates=brain.optimizer_step, training=brain.modules.training)
    record("returned", loss=float(brain.evaluate(test)))
    record_weights("final", brain.modules)
