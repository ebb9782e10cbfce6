"""Lightning's ``.ckpt`` files: an interrupted run goes on as if nothing had happened."""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import callbacks
from torch.utils.data import DataLoader

from brain_lightning import BrainModule, Checkpointer, SaveableDataLoader, Stage

from .small_brain import BATCH, BATCHES, ITEMS, Points, SmallBrain, fit, small_brain, weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]


class Interrupted(Exception):
    pass


class Cut(pl.Callback):
    """Saves a checkpoint behind a step, and ends the run."""

    def __init__(self, batch: int, path: Path) -> None:
        self.batch = batch
        self.path = path
        self.seen = 0

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.fit_loop.total_batch_idx + 1 == self.batch:
            trainer.save_checkpoint(self.path)
            raise Interrupted


class Losses(pl.Callback):
    """What every batch gave, and where the Trainer was."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int, float]] = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        where = (trainer.current_epoch, batch_idx, trainer.global_step)
        self.seen.append((*where, float(outputs["loss"])))


class TwoOptimizers(SmallBrain):
    """One optimizer for each module, and a scheduler that is saved."""

    def init_optimizers(self) -> None:
        self.first = torch.optim.Adam(self.modules.backbone.parameters(), 0.01)
        self.second = torch.optim.SGD(self.modules.head.parameters(), 0.1, momentum=0.9)
        self.optimizers_dict = {"first": self.first, "second": self.second}
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.second, 1, 0.5)
        if self.checkpointer is not None:
            for name in ("first", "second", "scheduler"):
                self.checkpointer.add_recoverable(name, getattr(self, name))

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        super().on_stage_end(stage, stage_loss, epoch)
        if stage is Stage.VALID:
            self.scheduler.step()


Data = Callable[[], dict[str, Any]]


def made_by_brain() -> dict[str, Any]:
    options = {"batch_size": BATCH, "shuffle": True}
    return {
        "train_set": Points(),
        "train_loader_kwargs": options,
        "valid_set": Points(8),
        "valid_loader_kwargs": {"batch_size": BATCH},
    }


def plain_loaders() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    train = DataLoader(Points(), batch_size=BATCH, shuffle=True, generator=generator)
    return {"train_set": train, "valid_set": DataLoader(Points(8), batch_size=BATCH)}


def with_workers() -> dict[str, Any]:
    train = SaveableDataLoader(Points(), batch_size=BATCH, shuffle=True, num_workers=2)
    return {"train_set": train, "valid_set": DataLoader(Points(8), batch_size=BATCH)}


def run(
    folder: Path,
    cuts: list[int],
    data: Data = made_by_brain,
    recipe: type[SmallBrain] = SmallBrain,
    saves: bool = True,
    options: dict[str, Any] | None = None,
    **trainer: Any,
) -> tuple[list[Any], list[torch.Tensor]]:
    """Train, interrupted behind some batches; each part saves in a folder of its own."""
    seen: list[Any] = []
    path: Path | None = None
    for part, cut in enumerate([*cuts, None]):
        losses = Losses()
        ends = [] if cut is None else [Cut(cut, folder / f"{part}.ckpt")]
        brain = small_brain(
            folder / str(part),
            recipe,
            saves=saves,
            options=options,
            callbacks=[losses, callbacks.EarlyStopping("valid_loss"), *ends],
            **trainer,
        )
        torch.manual_seed(7 if path is None else 1000 + part)
        try:
            brain.fit(brain.hparams.counter, **data(), ckpt_path=path)
        except Interrupted:
            path = folder / f"{part}.ckpt"
        seen += losses.seen
    return seen, weights(brain)


def assert_same(found: Any, expected: Any) -> None:
    assert found[0] == expected[0]
    assert all(map(torch.equal, found[1], expected[1]))


@pytest.mark.parametrize("cuts", [[3], [5], [2, 9], [4, 7, 15]], ids=str)
@pytest.mark.parametrize("data", [made_by_brain, plain_loaders])
@pytest.mark.parametrize("saves", [True, False])
def test_resume(tmp_path: Path, cuts: list[int], data: Data, saves: bool) -> None:
    whole = run(tmp_path / "whole", [], data, saves=saves)
    assert len(whole[0]) == 3 * BATCHES
    assert_same(run(tmp_path / "parts", cuts, data, saves=saves), whole)


@pytest.mark.parametrize(
    "options",
    [
        {"grad_accumulation_factor": 2},
        {"grad_accumulation_factor": 2, "optimization": "automatic"},
        {"precision": "bf16"},
        {"val_interval_steps": 4},
    ],
    ids=str,
)
def test_resume_with_options(tmp_path: Path, options: dict[str, Any]) -> None:
    whole = run(tmp_path / "whole", [], options=options)
    assert_same(run(tmp_path / "parts", [3, 7, 9], options=options), whole)


@pytest.mark.parametrize("interval", [2, 0.6, 5])
def test_resume_with_validation_in_the_epoch(tmp_path: Path, interval: float) -> None:
    """After the second batch, the third and the last of five."""
    whole = run(tmp_path / "whole", [], val_check_interval=interval)
    assert_same(run(tmp_path / "parts", [2, 3, 4, 5, 8], val_check_interval=interval), whole)


class Noisy(Points):
    """Its examples have noise from the generator that dropout draws from."""

    def __getitem__(self, index: int) -> Any:
        inputs, targets = super().__getitem__(index)
        return inputs + 0.1 * torch.randn(3), targets


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_before_backward", "error"])
@pytest.mark.parametrize("batch", [1, 3, BATCHES + 1])
def test_saved_between_the_fetch_of_a_batch_and_its_end(
    tmp_path: Path, hook: str, batch: int
) -> None:
    """The run that goes on fetches it once more, with the same random numbers."""
    path = tmp_path / "saved.ckpt"

    class Ending(SmallBrain):
        def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> torch.Tensor:
            if self.ends and stage is Stage.TRAIN and self.optimizer_step + 1 == self.ends:
                raise Interrupted
            return super().compute_objectives(predictions, batch, stage)

        ends = 0

    def part(folder: Path, seed: int, **arguments: Any) -> list[torch.Tensor]:
        ends = batch if arguments.pop("ends", False) else 0

        def save(trainer: Any, *_: Any) -> None:
            if trainer.global_step + 1 == ends:
                trainer.save_checkpoint(path)
                raise Interrupted

        lambdas = {} if hook == "error" else {hook: save}
        saver = callbacks.OnExceptionCheckpoint(tmp_path, "saved")
        added = [saver] if hook == "error" else [callbacks.LambdaCallback(**lambdas)]
        brain = small_brain(folder, Ending, saves=True, callbacks=added)
        assert isinstance(brain, Ending)
        brain.ends = ends if hook == "error" else 0
        torch.manual_seed(seed)
        data = {**made_by_brain(), "train_set": Noisy()}
        brain.fit(brain.hparams.counter, **data, **arguments)
        return weights(brain)

    whole = part(tmp_path / "whole", 7)
    with pytest.raises(Interrupted):
        part(tmp_path / "1", 7, ends=True)
    assert all(map(torch.equal, part(tmp_path / "2", 99, ckpt_path=path), whole))


def test_resume_with_two_optimizers_and_a_scheduler(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", [], recipe=TwoOptimizers)
    assert_same(run(tmp_path / "parts", [3, 8, 11], recipe=TwoOptimizers), whole)


def test_resume_with_a_sampler_that_depends_on_the_epochs_before(tmp_path: Path) -> None:
    """Of a loader that saves nothing; behind an epoch, and twice in one."""

    class Turning(torch.utils.data.Sampler[int]):
        def __init__(self) -> None:
            self.order = torch.arange(ITEMS)

        def __iter__(self) -> Iterator[int]:
            self.order = self.order.roll(3)
            return iter(self.order.tolist())

        def __len__(self) -> int:
            return ITEMS

    def turning() -> dict[str, Any]:
        train = DataLoader(Points(), batch_size=BATCH, sampler=Turning())
        return {"train_set": train, "valid_set": DataLoader(Points(8), batch_size=BATCH)}

    whole = run(tmp_path / "whole", [], turning)
    assert_same(run(tmp_path / "parts", [BATCHES, BATCHES + 2, 2 * BATCHES + 3], turning), whole)


def test_resume_with_workers(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", [], with_workers)
    assert_same(run(tmp_path / "parts", [7], with_workers), whole)


@pytest.mark.parametrize("where", [(Stage.TRAIN, 3), (Stage.TRAIN, 11), (Stage.VALID, 2)], ids=str)
@pytest.mark.parametrize("data", [made_by_brain, plain_loaders])
@pytest.mark.parametrize("by_model_checkpoint", [False, True])
def test_on_exception(
    tmp_path: Path, where: tuple[Stage, int], data: Data, by_model_checkpoint: bool
) -> None:
    """An error in the middle of a step: the step is made again, with the same random numbers."""
    known = inspect.signature(callbacks.ModelCheckpoint.__init__).parameters
    if by_model_checkpoint and "save_on_exception" not in known:
        pytest.skip("this version of Lightning has OnExceptionCheckpoint only")

    class Failing(SmallBrain):
        left = 0

        def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> torch.Tensor:
            if stage is where[0]:
                self.left -= 1
                if self.left == 0:
                    raise Interrupted
            return super().compute_objectives(predictions, batch, stage)

    def part(folder: Path, left: int, seed: int, path: Path | None = None) -> Failing:
        saver: Any = callbacks.OnExceptionCheckpoint(tmp_path)
        if by_model_checkpoint:
            saver = callbacks.ModelCheckpoint(folder, monitor="valid_loss", save_on_exception=True)
        brain = small_brain(folder, Failing, saves=True, callbacks=[saver])
        assert isinstance(brain, Failing)
        brain.left = left
        torch.manual_seed(seed)
        brain.fit(brain.hparams.counter, **data(), ckpt_path=path)
        return brain

    whole = part(tmp_path / "whole", 0, 7)
    with pytest.raises(Interrupted):
        part(tmp_path / "1", where[1], 7)
    saved = sorted((tmp_path / "1").glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    assert bool(saved) == by_model_checkpoint
    resumed = part(tmp_path / "2", 0, 99, saved[-1] if saved else None)
    assert all(map(torch.equal, weights(resumed), weights(whole)))


class DrawingPoints(Points):
    """Draws noise from the global generator, and cannot read one of its items."""

    def __init__(self, unreadable: int = 0) -> None:
        super().__init__()
        self.left = unreadable

    def __getitem__(self, index: int) -> Any:
        self.left -= 1
        if self.left == 0:
            raise Interrupted
        inputs, targets = super().__getitem__(index)
        return inputs + 0.1 * torch.randn(3), targets


class Noting(SmallBrain):
    """Notes at the end of TRAIN what it uses at the end of VALID; fails in one of its batches."""

    left = 0

    def compute_objectives(self, predictions: Any, batch: Any, stage: Stage) -> torch.Tensor:
        self.left -= 1
        if self.left == 0:
            raise Interrupted
        return super().compute_objectives(predictions, batch, stage)

    def on_stage_end(self, stage: Stage, stage_loss: Any, epoch: int | None = None) -> None:
        if stage is Stage.TRAIN:
            self.train_loss = stage_loss
        self.last = (self.train_loss, stage_loss)
        super().on_stage_end(stage, stage_loss, epoch)


# Batches are counted across TRAIN and VALID: the first of all, an epoch's last, two of VALID.
ERRORS = {
    "first step": [(1, 0)],
    "last step of an epoch": [(BATCHES, 0)],
    "validation, twice": [(BATCHES + 1, 0), (2, 0)],
    "step, then data": [(3, 0), (0, 10)],
    "data of a first batch": [(0, 2), (0, 2)],
    "step, then the way back to it, twice": [(4, 0), (0, 6), (0, 2)],
}


@pytest.mark.parametrize("errors", ERRORS.values(), ids=ERRORS)
def test_on_exception_with_data_that_draw_random_numbers(
    tmp_path: Path, errors: list[tuple[int, int]]
) -> None:
    def part(folder: Path, error: tuple[int, int], seed: int) -> Noting:
        saver = callbacks.OnExceptionCheckpoint(folder)
        options = {"grad_accumulation_factor": 2}
        brain = small_brain(folder, Noting, saves=True, options=options, callbacks=[saver])
        assert isinstance(brain, Noting)
        brain.left, unreadable = error
        torch.manual_seed(seed)
        arguments = {**made_by_brain(), "train_set": DrawingPoints(unreadable)}
        brain.fit(brain.hparams.counter, **arguments)
        return brain

    whole = part(tmp_path / "whole", (0, 0), 7)
    for seed, error in enumerate(errors, 7):
        with pytest.raises(Interrupted):
            part(tmp_path / "parts", error, seed)
    resumed = part(tmp_path / "parts", (0, 0), 99)
    assert all(map(torch.equal, weights(resumed), weights(whole)))
    assert resumed.last == whole.last


EVERY = {"save_top_k": -1, "auto_insert_metric_name": False}
MODES: dict[str, dict[str, Any]] = {
    "monitor": {"monitor": "valid_loss", "save_top_k": 2, "save_last": True},
    "meta": {"monitor": "WER", "mode": "min", "save_top_k": 1, "save_last": "link"},
    "steps": {"every_n_train_steps": 4, **EVERY},
    "time": {"train_time_interval": timedelta(0), **EVERY},
    "epochs": {"every_n_epochs": 2, **EVERY},
    "end of training": {"save_on_train_epoch_end": True, **EVERY},
}


@pytest.mark.parametrize("mode", MODES)
def test_every_file_that_is_saved_leads_to_the_same_end(tmp_path: Path, mode: str) -> None:
    def brain(name: str) -> SmallBrain:
        keeper = callbacks.ModelCheckpoint(tmp_path / name, "{epoch}-{step}", **MODES[mode])
        return small_brain(tmp_path / name, saves=True, callbacks=[keeper])

    whole = fit(brain("whole"))
    files = sorted((tmp_path / "whole").glob("*.ckpt"))
    assert len(files) >= {"steps": 3, "time": 10}.get(mode, 1)
    for file in files[:: 4 if mode == "time" else 1]:
        torch.manual_seed(1000)
        resumed = brain(f"from {file.name}")
        resumed.fit(resumed.hparams.counter, **made_by_brain(), ckpt_path=file)
        assert all(map(torch.equal, weights(resumed), weights(whole))), file.name


def test_last(tmp_path: Path) -> None:
    def part(epochs: int) -> SmallBrain:
        keeper = callbacks.ModelCheckpoint(tmp_path, save_last=True)
        brain = small_brain(tmp_path, epochs=epochs, callbacks=[keeper])
        return fit(brain, ckpt_path="last" if epochs > 1 else None)

    part(1)
    resumed = part(3)
    assert resumed.calls.count(("end", "TRAIN")) == 2
    whole = fit(small_brain(tmp_path / "whole"))
    assert all(map(torch.equal, weights(resumed), weights(whole)))


def test_a_range_goes_on_where_it_was(tmp_path: Path) -> None:
    numbers: list[Any] = []

    class Noting(SmallBrain):
        def on_stage_start(self, stage: Stage, epoch: int | None = None) -> None:
            super().on_stage_start(stage, epoch)
            numbers.append((stage.name, epoch))

    keeper = callbacks.ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    small_brain(tmp_path, callbacks=[keeper]).fit(range(2), [next(iter(plain()))])
    brain = small_brain(tmp_path, Noting, callbacks=[keeper])
    brain.fit(range(3), [next(iter(plain()))], ckpt_path=tmp_path / "epoch=0.ckpt")
    assert numbers == [("TRAIN", 1), ("TRAIN", 2)]


def plain() -> DataLoader[Any]:
    return DataLoader(Points(), batch_size=BATCH)


def test_files_hold_every_recoverable_and_load_without_pickle(tmp_path: Path) -> None:
    keeper = callbacks.ModelCheckpoint(tmp_path, "kept")
    brain = fit(small_brain(tmp_path, saves=True, callbacks=[keeper]))
    content = torch.load(tmp_path / "kept.ckpt", weights_only=True)
    names = content["brain_lightning"]["names"]
    assert names.keys() | {"brain"} == brain.checkpointer.recoverables.keys()
    assert names["backbone"] == "state_dict"
    assert names["optimizer"] == "optimizer_states"
    assert bytes(content["brain_lightning"]["files"]["counter.ckpt"].tolist()) == b"3"


def test_weights_only_files_have_the_weights(tmp_path: Path) -> None:
    keeper = callbacks.ModelCheckpoint(tmp_path, "kept", save_weights_only=True)
    fit(small_brain(tmp_path, saves=True, callbacks=[keeper]))
    content = torch.load(tmp_path / "kept.ckpt", weights_only=True)
    assert "brain_lightning" not in content
    brain = small_brain(tmp_path / "2", saves=True, callbacks=[])
    with pytest.raises(ValueError, match="save_weights_only=True"):
        fit(brain, ckpt_path=tmp_path / "kept.ckpt")


class Pickled(pl.Callback):
    """Has a state that only pickle can hold."""

    def state_dict(self) -> dict[str, Any]:
        return {"where": Path("here")}


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    keeper = callbacks.ModelCheckpoint(tmp_path, "kept")
    fit(small_brain(tmp_path, callbacks=[keeper, Pickled()]))
    file = tmp_path / "kept.ckpt"
    with pytest.raises(ValueError, match=r"kept\.ckpt cannot be .* \(pathlib\..*add_safe_globals"):
        fit(small_brain(tmp_path / "2"), ckpt_path=file)
    for content in (file.read_bytes()[:5000], b"text", b""):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"kept\.ckpt cannot be resumed from: it is no"):
            fit(small_brain(tmp_path / "2"), ckpt_path=file)
    torch.save([1], file)
    with pytest.raises(ValueError, match=r"kept\.ckpt cannot be resumed from: it holds a list"):
        fit(small_brain(tmp_path / "2"), ckpt_path=file)


@pytest.mark.parametrize("path", ["last", "file"])
def test_a_flipped_bit_is_found(tmp_path: Path, path: str) -> None:
    """torch would load it, in any tensor."""
    keeper = callbacks.ModelCheckpoint(tmp_path, "kept", save_last=True)
    fit(small_brain(tmp_path, callbacks=[keeper]))
    for file in (tmp_path / "kept.ckpt", tmp_path / "last.ckpt"):
        content = bytearray(file.read_bytes())
        with zipfile.ZipFile(file) as archive:
            entry = next(each for each in archive.infolist() if each.filename.endswith("/data/0"))
        # Behind the entry's header, which is its name and padding.
        content[entry.header_offset + 128] ^= 8
        file.write_bytes(content)
    again = small_brain(tmp_path, callbacks=[keeper])
    with pytest.raises(ValueError, match=r"ckpt is damaged: \S+/data/0 in it is not what was"):
        fit(again, ckpt_path="last" if path == "last" else tmp_path / "kept.ckpt")


def test_bad_paths(tmp_path: Path) -> None:
    brain = small_brain(tmp_path, saves=True)
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt' does not exist"):
        fit(brain, ckpt_path=tmp_path / "none.ckpt")
    fit(brain)
    (folder,) = (tmp_path / "save").iterdir()
    with pytest.raises(ValueError, match=r"recovers by itself"):
        fit(brain, ckpt_path=folder)


def test_checkpointers_own_recovery_yields_to_ckpt_path(tmp_path: Path) -> None:
    """The Checkpointer has a newer checkpoint, but the user names the one to go on from."""
    keeper = callbacks.ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    fit(small_brain(tmp_path, saves=True, callbacks=[keeper]))
    brain = small_brain(tmp_path, saves=True, callbacks=[keeper])
    fit(brain, ckpt_path=tmp_path / "epoch=0.ckpt")
    assert brain.calls.count(("end", "TRAIN")) == 2
    whole = fit(small_brain(tmp_path / "whole"))
    assert all(map(torch.equal, weights(brain), weights(whole)))


def test_a_recoverable_that_does_not_fit_is_named(tmp_path: Path) -> None:
    keeper = callbacks.ModelCheckpoint(tmp_path, "kept")
    extra = torch.nn.Linear(2, 2)

    def with_extra(module: torch.nn.Module) -> SmallBrain:
        brain = small_brain(tmp_path, callbacks=[keeper])
        brain.checkpointer = Checkpointer(tmp_path / "save2", {"extra": module})
        return brain

    fit(with_extra(extra))
    with pytest.raises(RuntimeError, match="'extra'"):
        fit(with_extra(torch.nn.Linear(3, 2)), ckpt_path=tmp_path / "kept.ckpt")


def test_load_from_checkpoint(tmp_path: Path) -> None:
    """As a Lightning user loads a module, without a Trainer; it is told whose module it is."""
    trained = fit(small_brain(tmp_path / "1", epochs=2, saves=True))
    trained.trainer.save_checkpoint(tmp_path / "kept.ckpt")
    brain = small_brain(tmp_path / "2", saves=True)
    module = BrainModule.load_from_checkpoint(tmp_path / "kept.ckpt", brain=brain)
    assert module.brain is brain
    assert all(map(torch.equal, weights(brain), weights(trained)))
    assert brain.hparams.counter.current == 2
