"""Trains with a logger whose package is installed: ``python -m ... NAME FOLDER``.

Prints, as JSON, what the logger's own package says that it has.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import loggers

from .small_brain import BATCH, Points, fit
from .test_loggers import writing


def of_mlflow(folder: Path, logger: Any) -> Any:
    from mlflow import MlflowClient

    client = MlflowClient(f"file:{folder / 'mlruns'}")
    history = client.get_metric_history(logger.run_id, "valid_WER")
    test = client.get_metric_history(logger.run_id, "test_WER")
    return [[each.step, each.value] for each in [*history, *test]]


def of_wandb(folder: Path, logger: Any) -> Any:
    summary = logger.experiment.summary
    runs = [path.parent.name for path in folder.glob("wandb/offline-run-*/*.wandb")]
    return [len(runs), *(summary[key] for key in ("valid_WER", "test_WER", "epoch"))]


def of_comet(folder: Path, logger: Any) -> Any:
    return [type(logger).__name__, logger.experiment.disabled]  # it keeps nothing without a key


def main(name: str, folder: Path) -> None:
    os.environ["WANDB_MODE"] = "offline"
    logger: Any = loggers.CometLogger(online=False) if name == "comet" else name
    brain = fit(writing(folder, logger=logger))
    brain.evaluate(Points(8), test_loader_kwargs={"batch_size": BATCH})
    shown = {"mlflow": of_mlflow, "wandb": of_wandb, "comet": of_comet}[name]
    print("\n" + json.dumps(shown(folder, brain.trainer.logger)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
