"""From the ticket that Lightning fetched to the batch that a step gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch

from brain_lightning.engine.stages.batch_tickets import NO_BATCH, TICKET


class BatchDelivery:
    """Fetches the batch behind a ticket and moves it where that was asked for.

    A recipe moves its batches itself, so nothing is moved unless the option ``move_batch`` is on. A
    data module's own hooks for batches are called with the batch: Lightning has called them with
    the ticket.
    """

    def __init__(
        self, module: pl.LightningModule, next_batch: Callable[[], Any], move_batch: bool
    ) -> None:
        """Deliver to ``module`` what ``next_batch`` fetches."""
        self._module = module
        self._next_batch = next_batch
        self._move_batch = move_batch

    def deliver(
        self,
        batch: Any,
        device: torch.device,
        dataloader_idx: int,
        datamodule: pl.LightningDataModule | None,
    ) -> Any:
        """Return the batch behind a ticket; anything else is a batch already.

        Raises:
            StopIteration: the loader has no more; Lightning ends the stage.
        """
        if batch is TICKET:
            batch = self._next_batch()
            if batch is None and self._module.trainer.training:
                return NO_BATCH
            if datamodule is not None:
                return self._through(datamodule, batch, device)
        return self._moved(batch, device, dataloader_idx)

    def _moved(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        if not self._move_batch:
            return batch
        move = pl.LightningModule.transfer_batch_to_device
        return move(self._module, batch, device, dataloader_idx)

    def _through(self, datamodule: pl.LightningDataModule, batch: Any, device: torch.device) -> Any:
        batch = datamodule.on_before_batch_transfer(batch, 0)
        moves = type(datamodule).transfer_batch_to_device
        if moves is not pl.LightningDataModule.transfer_batch_to_device:
            batch = datamodule.transfer_batch_to_device(batch, device, 0)
        else:
            batch = self._moved(batch, device, 0)
        return datamodule.on_after_batch_transfer(batch, 0)
