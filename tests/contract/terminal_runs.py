"""One recipe in many ways, in a terminal: ``python -m ... speechbrain|brain_lightning FOLDER``.

The terminal is what this process has for standard output and standard error.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch

if sys.argv[1] == "speechbrain":
    warnings.simplefilter("ignore")
    from speechbrain.core import Brain
    from speechbrain.utils.checkpoints import Checkpointer
    from speechbrain.utils.epoch_loop import EpochCounter

    warnings.simplefilter("default")
else:
    from brain_lightning import Brain, Checkpointer, EpochCounter

LOADER = {"batch_size": 4}


class Interrupted(Exception):
    """Ends a run in the middle of an epoch."""


class Small(Brain):  # type: ignore[misc, valid-type, unused-ignore]
    """Prints at the end of each stage."""

    raises_at = 0

    def compute_forward(self, batch: Any, stage: Any) -> Any:
        if self.raises_at and stage.name == "TRAIN" and self.optimizer_step == self.raises_at:
            raise Interrupted
        return self.modules.model(batch[0])

    def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
        return torch.nn.functional.mse_loss(predictions, batch[1])

    def on_stage_end(self, stage: Any, stage_loss: Any, epoch: int | None = None) -> None:
        print(stage.name, stage_loss, epoch)
        if stage.name == "VALID" and self.checkpointer is not None:
            self.checkpointer.save_and_keep_only(meta={"loss": stage_loss}, name=f"{epoch}")


class Testing(Small):
    """Tests behind each validation."""

    def on_stage_end(self, stage: Any, stage_loss: Any, epoch: int | None = None) -> None:
        super().on_stage_end(stage, stage_loss, epoch)
        if stage.name == "VALID":
            self.evaluate(points(8), test_loader_kwargs=dict(LOADER))


class Stream(torch.utils.data.IterableDataset[Any]):
    """Has no length."""

    def __iter__(self) -> Iterator[Any]:
        return iter(points(12))


def points(size: int = 20) -> Any:
    generator = torch.Generator().manual_seed(0)
    return torch.utils.data.TensorDataset(
        torch.randn(size, 3, generator=generator), torch.randn(size, 2, generator=generator)
    )


def brain(folder: str = "", recipe: type[Small] = Small, **options: Any) -> Any:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    counter = EpochCounter(2)
    saver = Checkpointer(folder, {"model": model, "counter": counter}) if folder else None
    made = recipe(
        {"model": model},
        lambda parameters: torch.optim.SGD(parameters, 0.1),
        {"counter": counter},
        {"device": "cpu", **options},
        saver,
    )
    return made


def fit(made: Any, train: Any = None, valid: Any = 8, **arguments: Any) -> Any:
    made.fit(
        made.hparams.counter,
        points() if train is None else train,
        None if valid is None else points(valid),
        train_loader_kwargs=dict(LOADER),
        valid_loader_kwargs=dict(LOADER),
        **arguments,
    )
    return made


def resumed(name: str, **options: Any) -> None:
    first = brain(name, ckpt_interval_steps=2, ckpt_interval_minutes=0, **options)
    first.raises_at = 8
    try:
        fit(first)
    except Interrupted:
        print()
    fit(brain(name, **options))


def main() -> None:
    warnings.simplefilter("ignore", ResourceWarning)  # debug mode's folder, by chance
    logging.basicConfig(level="WARNING", stream=sys.stdout)
    # The two libraries' own messages are worded differently.
    logging.getLogger().handlers[0].addFilter(
        lambda record: not record.name.startswith(("speechbrain", "brain_lightning"))
    )
    os.chdir(sys.argv[2])
    test = {"min_key": "loss", "test_loader_kwargs": dict(LOADER)}
    print("== with bars")
    fit(brain("save")).evaluate(points(), **test)
    print("== without")
    fit(brain("silent", noprogressbar=True)).evaluate(points(), **test)
    print("== debug")
    fit(brain("debug", debug=True))
    print("== step limit")
    fit(brain(optimizer_step_limit=7))
    print("== no length")
    fit(brain(), Stream())
    print("== no validation")
    fit(brain(), valid=None)
    print("== by argument")
    fit(brain(), progressbar=False)
    print("== other colours")
    fit(brain(tqdm_colored_bar=True))
    print("== nested")
    fit(brain(recipe=Testing))
    print("== accumulation")
    fit(brain(grad_accumulation_factor=3))
    print("== resumed")
    resumed("resumed")
    print("== nothing left to do")
    fit(brain("save"))
    print("== test only")
    fit(brain(test_only=True))


if __name__ == "__main__":
    main()
