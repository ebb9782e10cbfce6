"""A run that is interrupted, once or several times, ends with the weights of one that was not."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from brain_lightning import Brain, Checkpointer, EpochCounter, FileTrainLogger, Stage

# torch says so of a scheduler that is stepped in a process where its optimizer has not stepped yet.
pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")

EPOCHS = 3
EXAMPLES = 20
BATCH_SIZE = 3
TRAIN_BATCHES = 7
VALID_BATCHES = 2
CALLS = EPOCHS * (TRAIN_BATCHES + VALID_BATCHES)


class Interrupted(Exception):
    """Stands for a kill: what the process had in memory is gone."""


class Noise(torch.utils.data.Dataset[Any]):
    """Examples with noise from the global generator, as augmentation draws it."""

    def __init__(self, examples: list[tuple[torch.Tensor, torch.Tensor]], noisy: bool) -> None:
        self.examples = examples
        self.noisy = noisy

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Any:
        inputs, targets = self.examples[index]
        return (inputs + torch.randn(4) * 0.1 if self.noisy else inputs), targets


class Recipe(Brain):
    """Two optimizers, one of them frozen at times, and a scheduler; counts its batches."""

    interrupt_at: int | None = None
    batches = 0

    def _count(self) -> None:
        self.batches += 1
        if self.batches == self.interrupt_at:
            raise Interrupted

    def init_optimizers(self) -> None:
        self.first = torch.optim.Adam(self.modules.first.parameters(), 0.01)
        self.second = torch.optim.SGD(self.modules.second.parameters(), 0.01, momentum=0.9)
        self.optimizers_dict = {"first": self.first, "second": self.second}
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.first, 2, 0.5)
        self.checkpointer.add_recoverables(
            {"first_opt": self.first, "second_opt": self.second, "scheduler": self.scheduler}
        )

    def freeze_optimizers(self, optimizers: dict[str, Any]) -> dict[str, Any]:
        return {"first": self.first} if self.optimizer_step % 3 == 0 else optimizers

    def compute_forward(self, batch: Any, stage: Stage) -> Any:
        return self.modules.second(self.modules.first(batch[0]))

    def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> Any:
        return torch.nn.functional.mse_loss(predictions, batch[1])

    def fit_batch(self, batch: Any) -> Any:
        loss = super().fit_batch(batch)
        self._count()  # behind the step and before anything is saved
        return loss

    def evaluate_batch(self, batch: Any, stage: Stage) -> Any:
        self._count()
        return super().evaluate_batch(batch, stage)

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        if stage == Stage.TRAIN:
            self.train_loss = stage_loss
            return
        self.scheduler.step()
        self.hparams.train_logger.log_stats(
            {"epoch": epoch, "steps": self.optimizer_step},
            train_stats={"loss": self.train_loss},
            valid_stats={"loss": stage_loss},
        )
        self.checkpointer.save_and_keep_only(meta={"loss": stage_loss}, min_keys=["loss"])


def run(
    folder: Path, options: dict[str, Any], loader: dict[str, Any], interrupt_at: int | None
) -> dict[str, Any] | None:
    """Train as far as it goes; return what a finished run ends with."""
    torch.manual_seed(1)
    first = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.Tanh())
    second = torch.nn.Linear(8, 2)
    examples = [(torch.randn(4), torch.randn(2)) for _ in range(EXAMPLES)]
    counter = EpochCounter(EPOCHS)
    recoverables = {"first": first, "second": second, "counter": counter}
    brain = Recipe(
        {"first": first, "second": second},
        hparams={"train_logger": FileTrainLogger(str(folder / "train_log.txt"), precision=9)},
        run_opts={"noprogressbar": True, "device": "cpu", **options},
        checkpointer=Checkpointer(folder / "save", recoverables),
    )
    brain.interrupt_at = interrupt_at
    noisy = not loader.get("num_workers")  # what workers draw cannot be put back
    try:
        brain.fit(
            counter,
            Noise(examples, noisy),
            Noise(examples[:6], noisy),
            train_loader_kwargs={"batch_size": BATCH_SIZE, "shuffle": True, **loader},
            valid_loader_kwargs={"batch_size": BATCH_SIZE},
        )
    except Interrupted:
        return None
    return {
        **{f"first.{name}": value for name, value in first.state_dict().items()},
        **{f"second.{name}": value for name, value in second.state_dict().items()},
        "optimizer": brain.first.state_dict(),
        "step": brain.optimizer_step,
        "log": (folder / "train_log.txt").read_text(),
    }


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({"ckpt_interval_steps": 1}, {}),
    "every third batch": ({"ckpt_interval_steps": 3}, {}),
    "end of epoch only": ({"ckpt_interval_minutes": 0}, {}),
    "accumulation": ({"ckpt_interval_steps": 1, "grad_accumulation_factor": 3}, {}),
    "bf16": ({"ckpt_interval_steps": 2, "precision": "bf16"}, {}),
    "not beside": ({"ckpt_interval_steps": 2, "async_checkpoint": False}, {}),
    "workers": ({"ckpt_interval_steps": 2}, {"num_workers": 2}),
    "drop last": ({"ckpt_interval_steps": 2}, {"drop_last": True}),
}


@functools.cache
def reference(name: str, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    options, loader = SETTINGS[name]
    result = run(folder, options, loader, None)
    assert result is not None
    return result


def interrupted(name: str, folder: Path, cuts: tuple[int, ...]) -> dict[str, Any]:
    options, loader = SETTINGS[name]
    for cut in cuts:
        finished = run(folder, options, loader, cut)
        torch.manual_seed(77)  # a new process has other random states
        torch.rand(5)
        if finished is not None:
            break
    result = run(folder, options, loader, None)
    assert result is not None
    return result


@pytest.fixture(scope="module")
def reference_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reference")


SHORT_CUTS = [(1,), (4,), (8,), (9,), (10,), (15,), (27,), (5, 3), (8, 8), (2, 2, 2), (12, 1, 9)]


@pytest.mark.parametrize("cuts", SHORT_CUTS, ids=str)
@pytest.mark.parametrize("name", ["plain", "accumulation", "bf16"])
def test_same_end(name: str, cuts: tuple[int, ...], tmp_path: Path, reference_folder: Path) -> None:
    expected = reference(name, reference_folder / name.replace(" ", "_"))
    assert same(interrupted(name, tmp_path, cuts), expected)


@pytest.mark.parametrize("name", ["every third batch", "end of epoch only", "not beside"])
def test_same_end_from_an_older_checkpoint(
    name: str, tmp_path: Path, reference_folder: Path
) -> None:
    expected = reference(name, reference_folder / name.replace(" ", "_"))
    assert same(interrupted(name, tmp_path, (6, 5)), expected)


@pytest.mark.parametrize("cuts", [(5,), (4, 3)], ids=str)
def test_same_end_with_workers(
    cuts: tuple[int, ...], tmp_path: Path, reference_folder: Path
) -> None:
    expected = reference("workers", reference_folder / "workers")
    assert same(interrupted("workers", tmp_path, cuts), expected)


ONCE = [(cut,) for cut in range(1, CALLS + 1)]
TWICE = [(cut, again) for cut in range(1, CALLS, 4) for again in (1, 2, 3, 7, 8, 9)]
THRICE = [(cut, 2, 3) for cut in range(1, CALLS, 5)]


@pytest.mark.long
@pytest.mark.parametrize("name", SETTINGS)
def test_every_cut(name: str, tmp_path: Path, reference_folder: Path) -> None:
    """The whole matrix: once at any batch, twice and three times at many."""
    expected = reference(name, reference_folder / name.replace(" ", "_"))
    cuts = ONCE + TWICE + THRICE if name != "workers" else ONCE[::3]
    failed = [
        each for each in cuts if not same(interrupted(name, tmp_path / str(each), each), expected)
    ]
    assert not failed, f"{len(failed)} of {len(cuts)}"


def test_the_test_can_fail(tmp_path: Path, reference_folder: Path) -> None:
    """Without the files that SpeechBrain's format has no place for, a resume is not exact."""
    expected = reference("plain", reference_folder / "plain")
    options, loader = SETTINGS["plain"]
    assert run(tmp_path, options, loader, 4) is None
    torch.manual_seed(77)
    for path in (tmp_path / "save").glob("*/*"):
        if path.name in ("brain.ckpt.resume", "checksums.json"):
            path.unlink()
    assert not same(run(tmp_path, options, loader, None), expected)
