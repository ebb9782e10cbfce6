"""Statistics of training, one line of text for each epoch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.ranks import main_process_only

logger = get_logger(__name__)

Stats = Mapping[str, Any]


class TrainLogger:
    """What a logger of training statistics can do."""

    def log_stats(
        self,
        stats_meta: Stats,
        train_stats: Stats | None = None,
        valid_stats: Stats | None = None,
        test_stats: Stats | None = None,
        verbose: bool = False,
    ) -> None:
        """Log the statistics of one epoch.

        Args:
            stats_meta: what belongs to no stage, such as the epoch and the learning rate.
            train_stats, valid_stats, test_stats: the statistics of each stage by name; None for a
                stage that was not run.
            verbose: whether to give them to the program's log as well.
        """
        raise NotImplementedError


class FileTrainLogger(TrainLogger):
    """Append each epoch's statistics to a text file, in SpeechBrain's format.

    A line looks like ``epoch: 1, lr: 1.00e-03 - train loss: 2.31 - valid loss: 2.05``.

    Args:
        save_file: the file; its folder must exist.
        precision: how many decimal places a float has.
    """

    def __init__(self, save_file: str | os.PathLike[str], precision: int = 2) -> None:
        """Remember where and how; the file is opened for each line."""
        self.save_file = save_file
        self.precision = precision

    @override
    @main_process_only
    def log_stats(
        self,
        stats_meta: Stats,
        train_stats: Stats | None = None,
        valid_stats: Stats | None = None,
        test_stats: Stats | None = None,
        verbose: bool = True,
    ) -> None:
        """Append one line, on the main process; see ``TrainLogger.log_stats``."""
        stages = {"train": train_stats, "valid": valid_stats, "test": test_stats}
        parts = [self._as_text(stats_meta)] + [
            self._as_text(stats, f"{stage} ")
            for stage, stats in stages.items()
            if stats is not None
        ]
        line = " - ".join(parts)
        with open(self.save_file, "a", encoding="utf-8") as file:
            file.write(line + "\n")
        if verbose:
            logger.info(line)

    def _as_text(self, stats: Stats, prefix: str = "") -> str:
        return ", ".join(f"{prefix}{key}: {self._value(value)}" for key, value in stats.items())

    def _value(self, value: Any) -> str:
        if not isinstance(value, float):
            return f"{value}"  # not str(value): a tensor with one value is that number here
        # SpeechBrain does so: neither 1.0 nor 100.0 nor a negative number is written plainly.
        notation = "f" if 1.0 < value < 100.0 else "e"
        return f"{value:.{self.precision}{notation}}"
