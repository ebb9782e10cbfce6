"""One process, or one of several, that evaluates scenarios with ``shard_evaluation``.

python -m tests.distributed.sharing FOLDER SCENARIO...

What each process saw at the end of each stage is left as JSON in FOLDER, files in FOLDER/SCENARIO.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

import brain_lightning as sb
from tests.parity.small_recipes import INPUTS, OUTPUTS, Points, PointStream, sgd

SCENARIOS: dict[str, Callable[[Work], Any]] = {}
WORDS = ("red", "green", "blue")


def scenario(function: Callable[[Work], Any]) -> Callable[[Work], Any]:
    SCENARIOS[function.__name__] = function
    return function


class Work:
    """Where a scenario works, and what it saw."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[dict[str, Any]] = []
        self.evaluated: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def brain(self, recipe: type[Any], model: Any = None, **arguments: Any) -> Any:
        torch.manual_seed(7)
        model = torch.nn.Linear(INPUTS, OUTPUTS) if model is None else model
        options = {
            "device": "cpu",
            "noprogressbar": True,
            "distributed_backend": "gloo",
            "shard_evaluation": True,
            **arguments.pop("run_opts", {}),
        }
        hparams = arguments.pop("hparams", {})
        brain = type("Recipe", (recipe, sb.Brain), {"work": self})(
            {"model": model}, sgd, hparams, options, **arguments
        )
        return brain


class Counted(Dataset[Any]):
    """Points with their numbers."""

    def __init__(self, size: int) -> None:
        self.points = Points(size, 3)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> Any:
        return (*self.points[index], index)


class Plain:
    """Keeps predictions in a list and a dictionary, and which batches this process had."""

    work: Work
    modules: Any
    hparams: Any
    step: int
    log: Any

    def on_stage_start(self, stage: Any, epoch: Any = None) -> None:
        self.predicted: list[int] = []
        self.by_name: dict[str, float] = {}
        if stage != sb.Stage.TRAIN:
            self.started(stage)

    def started(self, stage: Any) -> None:
        """For recipes below."""

    def compute_forward(self, batch: Any, stage: Any) -> Any:
        self.work.evaluated[stage.name] = self.work.evaluated.get(stage.name, 0) + 1
        return self.modules.model(batch[0])

    def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
        loss = torch.nn.functional.mse_loss(predictions, batch[1])
        if stage != sb.Stage.TRAIN:
            self.evaluated(predictions, batch, loss)
        return loss

    def evaluated(self, predictions: Any, batch: Any, loss: Any) -> None:
        self.predicted += predictions.argmax(-1).tolist()
        for index, value in zip(batch[2].tolist(), predictions[:, 0].tolist(), strict=True):
            self.by_name[f"item {index}"] = value
        self.log("mean", loss)

    def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
        if stage == sb.Stage.TRAIN:
            return
        self.work.seen.append(
            {"stage": stage.name, "loss": float(stage_loss), "step": self.step, **self.figures()}
        )
        self.stage_done(stage, stage_loss)

    def stage_done(self, stage: Any, stage_loss: Any) -> None:
        """For recipes below."""

    def figures(self) -> dict[str, Any]:
        return {"predicted": self.predicted, "by_name": list(self.by_name.items())}


def trained_on() -> Any:
    """The same for one process and for several, that the weights are the same."""
    return DataLoader(Counted(4), 4)


def evaluate(work: Work, recipe: Any, loader: Any, **arguments: Any) -> None:
    brain = work.brain(recipe, **arguments)
    brain.fit(range(2), trained_on(), loader)
    result = brain.evaluate(loader)
    work.seen.append({"returned": float(result), "step": brain.step, "logged": logged(brain)})


def logged(brain: Any) -> dict[str, float]:
    return {name: float(value) for name, value in brain.trainer.callback_metrics.items()}


@scenario
def lists(work: Work) -> None:
    evaluate(work, Plain, DataLoader(Counted(23), 2))


@scenario
def one_batch(work: Work) -> None:
    evaluate(work, Plain, DataLoader(Counted(2), 2))


@scenario
def three_batches(work: Work) -> None:
    """More processes than batches to share."""
    evaluate(work, Plain, DataLoader(Counted(3), 1))


@scenario
def no_batch(work: Work) -> None:
    evaluate(work, Plain, DataLoader(Counted(0), 1))


@scenario
def workers(work: Work) -> None:
    loader = DataLoader(Counted(15), 2, num_workers=2, persistent_workers=True)
    evaluate(work, Plain, loader)


@scenario
def items_without_batches(work: Work) -> None:
    class Items(Counted):
        def __getitem__(self, index: int) -> Any:
            inputs, targets, number = super().__getitem__(index)
            return inputs[None], targets[None], torch.tensor([number])

    evaluate(work, Plain, DataLoader(Items(9), batch_size=None))


@scenario
def batch_sampler(work: Work) -> None:
    """Batches of unequal sizes."""
    batches = [[4, 0], [1, 2, 3], [6], [8, 7, 5, 9], [10], [11, 12]]
    sampler: Any = batches
    evaluate(work, Plain, sb.make_dataloader(Counted(13), batch_sampler=sampler))


@scenario
def shuffled(work: Work) -> None:
    """Each process would have an order of its own."""
    generator = torch.Generator().manual_seed(work_rank())
    sampler = RandomSampler(Counted(13), generator=generator)
    loader = DataLoader(Counted(13), 2, sampler=sampler)
    brain = work.brain(Plain)
    brain.evaluate(loader)
    work.seen = [{"items": sorted(work.seen[0]["by_name"])}]


def work_rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


@scenario
def debug(work: Work) -> None:
    options = {"debug": True, "debug_batches": 5}
    evaluate(work, Plain, DataLoader(Counted(23), 2), run_opts=options)


@scenario
def nested(work: Work) -> None:
    class Nesting(Plain):
        def stage_done(self, stage: Any, stage_loss: Any) -> None:
            if stage == sb.Stage.VALID:
                loss = self.evaluate(DataLoader(Counted(11), 2))  # type: ignore[attr-defined]
                self.work.seen.append({"inner": float(loss)})

    evaluate(work, Nesting, DataLoader(Counted(9), 2))


@scenario
def own_validation(work: Work) -> None:
    class Sometimes(Plain):
        def _fit_valid(self, valid_set: Any, epoch: Any, enable: bool) -> None:
            if epoch == 1:
                super()._fit_valid(valid_set, epoch, enable)  # type: ignore[misc]

    evaluate(work, Sometimes, DataLoader(Counted(9), 2))


class Statistics(Plain):
    """SpeechBrain's own statistics, in attributes, in hparams and in lists."""

    def started(self, stage: Any) -> None:
        from speechbrain.utils.Accuracy import AccuracyStats
        from speechbrain.utils.metric_stats import (
            BinaryMetricStats,
            ClassificationStats,
            ErrorRateStats,
            MetricStats,
            MultiMetricStats,
        )

        def distances(predictions: Any, targets: Any, **_: Any) -> Any:
            return (predictions - targets).abs().mean(-1)

        self.distances = MetricStats(distances)
        self.rates = [ErrorRateStats(), ErrorRateStats(split_tokens=True)]
        self.hparams.binary.clear()
        self.accuracy = AccuracyStats()
        self.classes = ClassificationStats()
        self.several = MultiMetricStats(
            lambda p, t: {"l1": distances(p, t), "l2": ((p - t) ** 2).mean(-1)}, batch_eval=True
        )
        assert isinstance(self.hparams.binary, BinaryMetricStats)
        self.bleu = Bleu()

    def evaluated(self, predictions: Any, batch: Any, loss: Any) -> None:
        ids = [f"item {index}" for index in batch[2].tolist()]
        guesses, truths = predictions.argmax(-1), batch[1].argmax(-1)
        said = [[WORDS[int(each)], "x"] for each in guesses]
        meant = [[WORDS[int(each)]] for each in truths]
        self.distances.append(ids, predictions, batch[1])
        for rate in self.rates:
            rate.append(ids, said, meant)
        self.hparams.binary.append(ids, predictions[:, 0].sigmoid(), (batch[1][:, 0] > 0).int())
        self.accuracy.append(predictions[:, None], truths[:, None])
        self.classes.append(ids, [w[0] for w in said], [w[0] for w in meant])
        self.several.append(ids, predictions, batch[1])
        self.bleu.append(ids, [w[0] for w in said], [[w[0] for w in meant]])

    def figures(self) -> dict[str, Any]:
        return {
            "distances": self.distances.summarize(),
            "ids": self.distances.ids,
            "rates": [rate.summarize("error_rate") for rate in self.rates],
            "binary": self.hparams.binary.summarize(threshold=0.5),
            "accuracy": self.accuracy.summarize(),
            "classes": self.classes.summarize("accuracy"),
            "several": self.several.summarize(),
            "bleu": [self.bleu.predicts, self.bleu.targets],
        }

    def stage_done(self, stage: Any, stage_loss: Any) -> None:
        def write() -> None:
            with (self.work.folder / f"{stage.name}.txt").open("w") as file:
                self.distances.write_stats(file)
                for rate in self.rates:
                    rate.write_stats(file)
                self.classes.write_stats(file)

        sb.run_on_main(write)
        if stage == sb.Stage.VALID:
            self.checkpointer.save_and_keep_only(  # type: ignore[attr-defined]
                {"WER": self.rates[0].summarize("error_rate"), "loss": stage_loss},
                min_keys=["WER"],
            )


class Bleu:
    """As SpeechBrain's BLEUStats keeps what it is given; sacrebleu is not installed."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.predicts: list[str] = []
        self.targets: Any = None

    def append(self, ids: Any, predict: Any, targets: Any) -> None:
        self.ids.extend(ids)
        self.predicts.extend(predict)
        if self.targets is None:
            self.targets = targets
        else:
            for known, more in zip(self.targets, targets, strict=True):
                known.extend(more)


@scenario
def speechbrains_statistics(work: Work) -> None:
    from speechbrain.utils.metric_stats import BinaryMetricStats

    model = torch.nn.Linear(INPUTS, OUTPUTS)
    checkpointer = sb.Checkpointer(work.folder / "save", {"counter": sb.EpochCounter(2)})
    loader = sb.make_dataloader(Counted(23), batch_size=2)
    evaluate(
        work,
        Statistics,
        loader,
        model=model,
        hparams={"binary": BinaryMetricStats()},
        checkpointer=checkpointer,
    )
    work.seen.append({"meta": [c.meta["WER"] for c in checkpointer.list_checkpoints()]})


@scenario
def torchmetrics_objects(work: Work) -> None:
    from torchmetrics import CatMetric, MeanMetric, MetricCollection, SumMetric
    from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

    class Measured(Plain):
        def started(self, stage: Any) -> None:
            self.all = CatMetric()
            self.mean = MeanMetric()
            self.hparams.scores.reset()

        def evaluated(self, predictions: Any, batch: Any, loss: Any) -> None:
            self.all.update(predictions[:, 0])
            self.mean.update(loss, weight=len(predictions))
            self.hparams.scores.update(predictions, batch[1].argmax(-1))
            total.update(loss)
            self.mean.compute()  # each process would wait for all here

        def figures(self) -> dict[str, Any]:
            scores = self.hparams.scores.compute()
            return {
                "all": self.all.compute().tolist(),
                "mean": round(float(self.mean.compute()), 5),
                "scores": {name: round(float(value), 6) for name, value in scores.items()},
                "total": round(float(total.compute()), 4),
            }

    total = SumMetric()
    model = torch.nn.Linear(INPUTS, OUTPUTS)
    model.add_module("total", total)
    model.requires_grad_(False)
    scores = MetricCollection(
        MulticlassAccuracy(OUTPUTS), MulticlassF1Score(OUTPUTS, average="macro")
    )
    brain = work.brain(Measured, model, hparams={"scores": scores})
    for size in (23, 4):
        brain.evaluate(DataLoader(Counted(size), 2))


class Tally:
    """A statistic of a recipe's own, which its recipe registers."""

    def __init__(self) -> None:
        self.right = self.seen = 0
        self.latest = ""


class Extremes:
    """Gathered by a function of the recipe's own."""

    def __init__(self) -> None:
        self.highest = float("-inf")


def gather_extremes(extremes: Extremes, copies: Any) -> None:
    extremes.highest = max(each.highest for each in copies)


@scenario
def registered(work: Work) -> None:
    class Counting(Plain):
        def started(self, stage: Any) -> None:
            self.tally, self.extremes = Tally(), Extremes()
            self.weight = torch.zeros(3)
            self.scratch = None

        def evaluated(self, predictions: Any, batch: Any, loss: Any) -> None:
            self.scratch = predictions
            self.tally.seen += len(predictions)
            self.tally.right += int((predictions.argmax(-1) == batch[1].argmax(-1)).sum())
            self.tally.latest = f"batch of {batch[2].tolist()}"
            self.extremes.highest = max(self.extremes.highest, float(predictions.max()))
            self.weight += predictions.argmax(-1).bincount(minlength=3)

        def figures(self) -> dict[str, Any]:
            return {
                "tally": [self.tally.right, self.tally.seen, self.tally.latest],
                "highest": self.extremes.highest,
                "weight": self.weight.tolist(),
            }

    sb.register_gatherable(Tally, sums=("right", "seen"), last=("latest",))
    sb.register_gatherable(Extremes, gather_extremes)
    sb.register_gatherable(Counting, sums=("weight",), ignored=("scratch",))
    evaluate(work, Counting, DataLoader(Counted(23), 2))


@scenario
def padded(work: Work) -> None:
    """Modules that FSDP2 shards are called as often on every process; what is more is dropped."""
    from torchmetrics import CatMetric, SumMetric

    class Mixed(Plain):
        def started(self, stage: Any) -> None:
            self.tally, self.extremes = Tally(), Extremes()
            self.all, self.total = CatMetric(), SumMetric()

        def evaluated(self, predictions: Any, batch: Any, loss: Any) -> None:
            super().evaluated(predictions, batch, loss)
            self.tally.seen += len(predictions)
            self.tally.latest = f"batch of {batch[2].tolist()}"
            self.extremes.highest = max(self.extremes.highest, float(predictions.max()))
            self.all.update(batch[2])
            self.total.update(len(predictions))

        def figures(self) -> dict[str, Any]:
            return {
                **super().figures(),
                "tally": [self.tally.seen, self.tally.latest],
                "highest": self.extremes.highest,
                "all": self.all.compute().tolist(),
                "total": float(self.total.compute()),
            }

    sb.register_gatherable(Tally, sums=("right", "seen"), last=("latest",))
    sb.register_gatherable(Extremes, gather_extremes)
    strategy = {"strategy": "fsdp2"} if torch.distributed.is_initialized() else {}
    evaluate(work, Mixed, DataLoader(Counted(21), 2), trainer=strategy)


@scenario
def not_registered(work: Work) -> None:
    """Every process goes on with all batches: the figures are right all the same."""

    class Counting(Plain):
        def started(self, stage: Any) -> None:
            self.count = 0

        def evaluated(self, predictions: Any, batch: Any, loss: Any) -> None:
            self.count += len(predictions)
            self.predicted += batch[2].tolist()

        def figures(self) -> dict[str, Any]:
            return {"count": self.count, "predicted": self.predicted}

    evaluate(work, Counting, DataLoader(Counted(11), 2))


@scenario
def changed_late(work: Work) -> None:
    class Late(Plain):
        count = 0

        def evaluated(self, predictions: Any, batch: Any, loss: Any) -> None:
            if self.step > 4:
                self.count = self.count + 1

        def figures(self) -> dict[str, Any]:
            return {"count": self.count}

    brain = work.brain(Late)
    brain.evaluate(DataLoader(Counted(11), 2))


@scenario
def stream(work: Work) -> None:
    """An IterableDataset is not shared."""

    class Stream(PointStream):
        def __iter__(self) -> Any:
            return iter([Counted(self.size)[index] for index in range(self.size)])

    evaluate(work, Plain, DataLoader(Stream(9), 2))


@scenario
def other_data_on_each(work: Work) -> None:
    """Each process has a data set of its own, as without the option."""
    size = 4 + 2 * work_rank()
    brain = work.brain(Plain)
    brain.evaluate(DataLoader(Counted(size), 2))


@scenario
def buffers(work: Work) -> None:
    """Running means that differ between the processes: the main process's count."""

    norm = torch.nn.BatchNorm1d(INPUTS, affine=False)
    model = torch.nn.Sequential(norm, torch.nn.Linear(INPUTS, OUTPUTS))
    model.requires_grad_(False)
    brain = work.brain(Plain, model)
    assert norm.running_mean is not None
    norm.running_mean.fill_(float(work_rank()))
    brain.evaluate(DataLoader(Counted(9), 2))
    assert norm.running_mean[0] == work_rank()


@scenario
def sampler_of_batches(work: Work) -> None:
    sampler = BatchSampler(SequentialSampler(range(9)), 2, drop_last=True)
    evaluate(work, Plain, DataLoader(Counted(9), batch_sampler=sampler))


class Warnings(logging.Handler):
    """Keeps what the library warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def main(folder: Path, names: list[str]) -> None:
    warnings.simplefilter("ignore")
    sb.ddp_init_group({"distributed_backend": "gloo"})
    several = torch.distributed.is_initialized()
    rank = torch.distributed.get_rank() if several else 0
    handler = Warnings()
    logging.getLogger("brain_lightning").addHandler(handler)
    for name in names:
        print(f"--- {name}", flush=True)
        handler.messages.clear()
        work = Work(folder / name)
        error = None
        try:
            SCENARIOS[name](work)
        except ValueError as raised:
            traceback.print_exc()
            error = str(raised)
        result = {
            "seen": work.seen,
            "evaluated": work.evaluated,
            "warnings": list(handler.messages),
            "error": error,
        }
        (folder / f"{name}-{rank}.json").write_text(json.dumps(result, default=str))
        if several:
            torch.distributed.barrier()
    if several:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(SCENARIOS))
