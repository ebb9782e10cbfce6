"""What is kept of modules and optimizers that no recoverable saves, and what is not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from speechbrain.utils.checkpoints import Checkpointer as TheirCheckpointer
from speechbrain.utils.epoch_loop import EpochCounter as TheirEpochCounter

from brain_lightning.__main__ import main
from brain_lightning.engine.checkpoints.unsaved_training import UnsavedTraining, restore_training
from brain_lightning.parts.checkpoints.resume_file import read_resume_file

from ...contract.small_brain import Pair, SmallBrain, fit, small_brain


class Interrupted(Exception):
    pass


class Unsaved(SmallBrain):
    """Saves its backbone, and neither the head, nor its optimizers, nor what else it has."""

    interrupt_at = -1
    second: Callable[..., torch.optim.Optimizer] = torch.optim.Adam

    def init_optimizers(self) -> None:
        self.first = torch.optim.Adam(self.modules.backbone.parameters(), 0.01)
        self.others = [type(self).second(self.modules.head.parameters(), 0.01)]
        self.optimizers_dict = {"first": self.first}
        self.checkpointer.add_recoverable("first", self.first)
        del self.checkpointer.recoverables["head"]

    def fit_batch(self, batch: Pair) -> Any:
        if self.optimizer_step == self.interrupt_at:
            raise Interrupted
        predictions = self.modules.judge(self.compute_forward(batch, None))  # type: ignore[arg-type]
        loss = (predictions - batch[1]).square().mean()
        loss.backward()
        for optimizer in (self.first, *self.others):
            optimizer.step()
            optimizer.zero_grad()
        self.optimizer_step += 1
        teacher, head = self.modules.teacher.weight, self.modules.head.weight
        teacher.data.mul_(0.9).add_(head.data, alpha=0.1)
        return loss.detach()


def unsaved(folder: Path, recipe: type[SmallBrain] = Unsaved, **options: Any) -> SmallBrain:
    brain = small_brain(folder, recipe, saves=True, **options)
    brain.modules["judge"] = torch.nn.BatchNorm1d(2).requires_grad_(False)
    brain.modules["teacher"] = torch.nn.Linear(8, 2, bias=False).requires_grad_(False)
    brain.modules["pretrained"] = torch.nn.Linear(50, 50).requires_grad_(False)
    return brain


def cut(folder: Path, steps: int, **options: Any) -> None:
    brain = unsaved(folder, options={"ckpt_interval_steps": 1}, **options)
    vars(brain)["interrupt_at"] = steps
    with pytest.raises(Interrupted):
        fit(brain)


def ends_with(brain: SmallBrain) -> list[torch.Tensor]:
    state = brain.modules.state_dict()
    del state["pretrained.weight"], state["pretrained.bias"]
    return list(state.values())


def in_the_file(folder: Path) -> Any:
    (path,) = (folder / "save").glob("*/brain.ckpt")
    state = read_resume_file(path)
    assert state is not None
    return state["unsaved_training"]


def test_no_more_than_training_changes(tmp_path: Path) -> None:
    cut(tmp_path, 3)
    state = in_the_file(tmp_path)
    assert list(state["optimizers"]) == ["brain.others.0"]
    assert sorted(state["tensors"]) == [
        "head.bias",
        "head.weight",
        "judge.num_batches_tracked",
        "judge.running_mean",
        "judge.running_var",
        "teacher.weight",
    ]


def test_nothing_where_all_is_saved(tmp_path: Path) -> None:
    fit(small_brain(tmp_path, saves=True, epochs=1))
    assert in_the_file(tmp_path) == {}


class Listed(SmallBrain):
    """Saves its modules in a list, as SpeechBrain's recipes do."""

    def init_optimizers(self) -> None:
        super().init_optimizers()
        recoverables = self.checkpointer.recoverables
        recoverables["model"] = torch.nn.ModuleList(
            [recoverables.pop("backbone"), recoverables.pop("head")]
        )


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("options", [{}, {"jit": True}], ids=str)
def test_a_list_of_modules_saves_them(tmp_path: Path, options: dict[str, Any]) -> None:
    fit(small_brain(tmp_path, Listed, saves=True, epochs=1, options=options))
    assert in_the_file(tmp_path) == {}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[torch.Tensor]:
    return ends_with(fit(unsaved(tmp_path_factory.mktemp("whole"))))


@pytest.mark.parametrize("steps", [3, 5])  # five is where an epoch has ended
def test_from_lightnings_checkpoint(tmp_path: Path, steps: int, whole: list[torch.Tensor]) -> None:
    cut(tmp_path, steps, callbacks=[OnExceptionCheckpoint(tmp_path, "cut")])
    resumed = fit(unsaved(tmp_path / "resumed"), ckpt_path=tmp_path / "cut.ckpt")
    assert all(map(torch.equal, ends_with(resumed), whole))


def test_from_a_folder_that_was_a_file(tmp_path: Path, whole: list[torch.Tensor]) -> None:
    saver = ModelCheckpoint(tmp_path / "files", every_n_train_steps=8, save_last=True)
    cut(tmp_path, 9, callbacks=[saver])
    folder = tmp_path / "converted" / "save" / "CKPT+converted"
    folder.parent.mkdir(parents=True)
    assert main(["convert", str(tmp_path / "files" / "last.ckpt"), str(folder)]) == 0
    resumed = fit(unsaved(tmp_path / "converted"))
    assert resumed.calls[0] == ("start", "TRAIN")
    assert len(resumed.calls) == 8, "the second and the third epoch"
    assert all(map(torch.equal, ends_with(resumed), whole))


def test_from_a_file_that_was_a_folder(tmp_path: Path, whole: list[torch.Tensor]) -> None:
    cut(tmp_path, 8)
    folder = unsaved(tmp_path).checkpointer.find_checkpoint().path
    assert main(["convert", str(folder), str(tmp_path / "converted.ckpt")]) == 0
    resumed = fit(unsaved(tmp_path / "resumed"), ckpt_path=tmp_path / "converted.ckpt")
    assert all(map(torch.equal, ends_with(resumed), whole))


def test_speechbrain_reads_the_rest(tmp_path: Path) -> None:
    cut(tmp_path, 3)
    backbone = unsaved(tmp_path / "other").modules.backbone
    recoverables = {"backbone": backbone, "counter": TheirEpochCounter(3)}
    theirs = TheirCheckpointer(tmp_path / "save", recoverables)
    assert theirs.recover_if_possible() is not None
    assert main(["convert", "--list", str(tmp_path / "save")]) == 0


# -- what does not fit -------------------------------------------------------------------------


class OtherClass(Unsaved):
    second = torch.optim.RMSprop


class OtherParameters(Unsaved):
    def init_optimizers(self) -> None:
        super().init_optimizers()
        self.others = [torch.optim.Adam([self.modules.head.weight], 0.01)]


@pytest.mark.parametrize("recipe", [OtherClass, OtherParameters])
def test_an_optimizer_that_does_not_fit_begins_anew(
    tmp_path: Path, recipe: type[SmallBrain], caplog: pytest.LogCaptureFixture
) -> None:
    cut(tmp_path, 3)
    fit(unsaved(tmp_path, recipe, epochs=1))
    assert "The optimizer brain.others.0 begins anew" in caplog.text


def test_what_is_not_there_any_more_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    brain = fit(unsaved(tmp_path, epochs=1))
    entry = {"class": "C", "shapes": [], "state": {}}
    tensors = {"head.weight": torch.ones(3), "gone": torch.ones(1)}
    restore_training(brain, {"optimizers": {"brain.gone": entry}, "tensors": tensors})
    assert "an optimizer brain.gone, which this run lacks" in caplog.text
    assert "head.weight of shape (3,)" in caplog.text
    assert "gone of shape (1,)" in caplog.text


def test_what_recoverables_load_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    brain = fit(unsaved(tmp_path, epochs=1))
    kept = brain.modules.backbone[0].weight.clone()  # type: ignore[index, union-attr, operator]
    entry = {"class": "C", "shapes": [], "state": {}}
    tensors = {"backbone.0.weight": torch.zeros_like(kept)}
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        restore_training(
            brain, {"optimizers": {"optimizers_dict.first": entry}, "tensors": tensors}
        )
    assert torch.equal(brain.modules.backbone[0].weight, kept)  # type: ignore[index, union-attr, arg-type]
    assert not caplog.text


class Peculiar(torch.optim.Adam):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "at": Path()}


class OtherState(Unsaved):
    second = Peculiar


def test_a_state_that_no_file_can_hold_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(unsaved(tmp_path, OtherState, epochs=2))
    assert caplog.text.count("brain.others.0 begins anew after a resume") == 1


# -- what has changed --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [torch.float32, torch.bfloat16, torch.float64, torch.bool, torch.complex64, torch.int8]
)
def test_a_change_of_one_element_is_seen(tmp_path: Path, kind: torch.dtype) -> None:
    brain = unsaved(tmp_path)
    judge = brain.modules.judge
    home = torch.zeros(3001).to(kind)
    judge.register_buffer("large", home[1:])
    judge.register_buffer("single", torch.zeros(()).to(kind))
    judge.register_buffer("passing", torch.zeros(2), persistent=False)
    judge.register_buffer("empty", torch.zeros(0).to(kind))
    before = UnsavedTraining(brain)
    assert not any("judge" in name for name in before.state(brain).get("tensors", {}))
    home[2000] = 1
    assert [name for name in before.state(brain)["tensors"] if "judge" in name] == ["judge.large"]
    judge.passing.fill_(1)  # type: ignore[union-attr, operator]
    judge.single.fill_(1)  # type: ignore[union-attr, operator]
    assert list(before.state(brain)["tensors"]) == ["judge.large", "judge.single"]
