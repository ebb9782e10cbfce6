"""Values that callbacks can monitor and loggers write, the moment they are known.

``LightningModule.log`` makes a value of the training epoch visible when that epoch ends, which is
after validation; a recipe's numbers (``train_loss``, what it saves as ``meta``) are final earlier.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import lightning.pytorch as pl
import torch

from brain_lightning.engine import lightning_internals as internals
from brain_lightning.parts.recipe_rules.logged_names import AXES


def publish(trainer: pl.Trainer, values: Mapping[str, Any], *, to_loggers: bool = True) -> None:
    """Put values into ``trainer.callback_metrics`` and give them to every logger.

    The loggers' x axes are Lightning's: the number of the last optimizer step and of the epoch,
    both from zero.

    Args:
        trainer: of the run in progress.
        values: name -> number or tensor with one element; others are left out.
        to_loggers: whether the loggers get them.
    """
    if trainer.barebones:
        return
    plain = {name: number for name, number in _numbers(values) if name not in AXES}
    if not plain:
        return
    # The properties return the dictionaries themselves, and Lightning's own callbacks write to
    # them: LearningRateMonitor does.
    trainer.callback_metrics.update(
        {name: torch.tensor(number, dtype=torch.float64) for name, number in plain.items()}
    )
    if not to_loggers or trainer.sanity_checking:
        return
    trainer.logged_metrics.update(
        {name: torch.tensor(number, dtype=torch.float64) for name, number in plain.items()}
    )
    step = internals.logged_step(trainer)
    for logger in trainer.loggers:
        logger.log_metrics({**plain, "epoch": trainer.current_epoch}, step=step)
        logger.save()


def show_in_bars(trainer: pl.Trainer, values: Mapping[str, float]) -> None:
    """Have Lightning's progress bars show the values from now on."""
    if not trainer.barebones:
        trainer.progress_bar_metrics.update(values)  # the dictionary itself, as above


def named_loss(name: str, loss: Any) -> dict[str, float]:
    """Return a stage's loss under ``name``; a mapping of losses under ``name_KEY`` each.

    A recipe may override ``update_average`` and so have any kind of loss: one that is no number is
    left out.
    """
    if isinstance(loss, Mapping):
        return dict(_numbers({f"{name}_{key}": value for key, value in loss.items()}))
    return dict(_numbers({name: loss}))


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            is_number = value.numel() == 1 and not value.is_complex()
            value = value.detach()
        else:
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            # or a number of numpy's
            is_number = is_number or (getattr(value, "ndim", 1) == 0 and hasattr(value, "item"))
        if is_number:
            yield str(name), float(value)
