"""Learning rates for the loggers, where no LearningRateMonitor writes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import lightning.pytorch as pl
from lightning.pytorch.callbacks import LearningRateMonitor
from torch.optim import Optimizer

from brain_lightning.engine import lightning_internals as internals
from brain_lightning.engine.logs.published_metrics import publish
from brain_lightning.engine.trainer.trainer_callbacks import callbacks_of


def named_learning_rates(optimizers: Iterable[Optimizer]) -> dict[str, float]:
    """Return the rates under the names that LearningRateMonitor gives them.

    ``lr-Adam`` and ``lr-Adam-1`` for two optimizers, ``lr-Adam/pg1`` or ``lr-Adam/NAME`` for one of
    several parameter groups.
    """
    rates: dict[str, float] = {}
    seen: Counter[type[Optimizer]] = Counter()
    for optimizer in optimizers:
        kind = type(optimizer)
        name = f"lr-{kind.__name__}" + (f"-{seen[kind]}" if seen[kind] else "")
        seen[kind] += 1
        groups = optimizer.param_groups
        for number, group in enumerate(groups, start=1):
            part = group.get("name", f"pg{number}" if len(groups) > 1 else None)
            rates[f"{name}/{part}" if part else name] = float(group["lr"])
    return rates


class LearningRateLog:
    """Gives the loggers the rate that each step is made with.

    Every ``log_every_n_steps`` steps, and, beside the stage's loss, that of an epoch's last batch.
    """

    def __init__(self) -> None:
        """Begin without a rate."""
        self.rates: dict[str, float] = {}
        """Those of the last batch, or none where nobody is to get them."""

    def before_batch(self, trainer: pl.Trainer) -> None:
        """See the rates, which a recipe may change after its step."""
        self.rates = {}
        if not trainer.loggers or _has_monitor(trainer):
            return
        self.rates = named_learning_rates(trainer.optimizers)
        interval: int = vars(trainer)["log_every_n_steps"]  # its class does not declare it
        if (internals.logged_step(trainer) + 1) % max(interval, 1) == 0:
            publish(trainer, self.rates)


def _has_monitor(trainer: pl.Trainer) -> bool:
    return any(isinstance(each, LearningRateMonitor) for each in callbacks_of(trainer))
