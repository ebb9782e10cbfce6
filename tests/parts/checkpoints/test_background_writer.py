"""Checkpoints that are written while training goes on."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from brain_lightning.parts.checkpoints.background_writer import BackgroundSaver
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.draft import CheckpointDraft
from brain_lightning.parts.checkpoints.errors import CheckpointError, CheckpointStorageError
from brain_lightning.parts.checkpoints.hooks import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from brain_lightning.parts.checkpoints.resume_file import read_resume_file, write_resume_file
from brain_lightning.parts.checkpoints.snapshot import SnapshotBuffers
from tests.parts.checkpoints.experiment import Experiment, names


@register_checkpoint_hooks
class Live:
    """A recoverable whose hook needs the live object."""

    def __init__(self, value=0):
        self.value = value
        self.threads = []

    @mark_as_saver
    def save(self, path):
        self.threads.append(threading.current_thread())
        Path(path).write_text(str(self.value))

    @mark_as_loader
    def load(self, path, end_of_epoch):
        self.value = int(Path(path).read_text())


@pytest.fixture
def experiment():
    experiment = Experiment()
    experiment.step()
    return experiment


@pytest.fixture
def checkpointer(tmp_path, experiment):
    return Checkpointer(tmp_path, experiment.recoverables)


@pytest.fixture
def held(monkeypatch):
    """The writer stops before it finishes a checkpoint until this event is set."""
    event = threading.Event()
    finish = CheckpointDraft.finish

    def finish_when_allowed(self, names):
        if threading.current_thread() is not threading.main_thread():
            assert event.wait(60)
        return finish(self, names)

    monkeypatch.setattr(CheckpointDraft, "finish", finish_when_allowed)
    yield event
    event.set()


def resumed(folder):
    experiment = Experiment(seed=5)
    checkpointer = Checkpointer(folder, experiment.recoverables)
    return experiment, checkpointer.recover_if_possible()


def test_training_goes_on_while_it_writes_and_the_snapshot_is_saved(
    tmp_path, checkpointer, experiment, held
):
    saver = BackgroundSaver(checkpointer)
    saved = experiment.state()
    saver.save_and_keep_only({"step": 1}, end_of_epoch=False)
    assert saver.is_writing
    experiment.step(3)
    assert [name for name in names(tmp_path) if not name.startswith(".")] == []
    held.set()
    saver.wait()
    assert not saver.is_writing
    again, found = resumed(tmp_path)
    assert again.state() == saved != experiment.state()
    assert found.meta["step"] == 1
    assert found.meta["end-of-epoch"] is False


def test_hooks_of_their_own_are_called_at_once_in_the_calling_thread(tmp_path, held, experiment):
    live = Live(7)
    saver = BackgroundSaver(Checkpointer(tmp_path, {**experiment.recoverables, "live": live}))
    saver.save_checkpoint()
    live.value = 8
    assert live.threads == [threading.main_thread()]
    held.set()
    saver.wait()
    restored = Live()
    Checkpointer(tmp_path, {"live": restored}).recover_if_possible()
    assert restored.value == 7


def test_it_saves_the_files_that_the_checkpointer_saves(tmp_path, experiment):
    recoverables = {**experiment.recoverables, "live": Live(1)}
    contents = []
    for kind in ("beside", "at once"):
        checkpointer = Checkpointer(tmp_path / kind, recoverables)
        if kind == "beside":
            BackgroundSaver(checkpointer).save_checkpoint({"unixtime": 1.0}, name="x")
        else:
            checkpointer.save_checkpoint({"unixtime": 1.0}, name="x")
        (found,) = checkpointer.list_checkpoints()
        files = {file.name: file for file in found.path.iterdir()}
        contents.append(
            {
                name: str(torch.load(file)) if name in experiment.recoverables else None
                for name, file in files.items()
            }
            | {"meta": files["CKPT.yaml"].read_text()}
        )
    assert contents[0] == contents[1]


def test_only_one_is_in_flight(checkpointer, experiment, held, monkeypatch):
    saver = BackgroundSaver(checkpointer)
    saver.save_checkpoint({"step": 1})
    started = []
    copy = SnapshotBuffers.copy

    def watched_copy(self, states, delayed):
        started.append(saver.is_writing)
        return copy(self, states, delayed)

    monkeypatch.setattr(SnapshotBuffers, "copy", watched_copy)
    threading.Timer(0.2, held.set).start()
    saver.save_checkpoint({"step": 2})
    assert started == [False]
    saver.wait()
    assert [c.meta["step"] for c in checkpointer.find_checkpoints()] == [2, 1]


@pytest.mark.parametrize(
    "access",
    [
        lambda checkpointer: checkpointer.list_checkpoints(),
        lambda checkpointer: checkpointer.find_checkpoint(),
        lambda checkpointer: checkpointer.recover_if_possible(),
        lambda checkpointer: checkpointer.save_checkpoint(),
        lambda checkpointer: checkpointer.delete_checkpoints(num_to_keep=9),
    ],
)
def test_whatever_else_is_done_waits_for_it(checkpointer, held, access):
    saver = BackgroundSaver(checkpointer)
    saver.save_checkpoint({"step": 1}, name="beside")
    threading.Timer(0.1, held.set).start()
    access(checkpointer)
    assert not saver.is_writing
    assert checkpointer.find_checkpoint(ckpt_predicate=lambda c: "step" in c.meta) is not None


def test_others_are_deleted_when_it_is_there(tmp_path, checkpointer, experiment, held):
    for wer in (3, 1, 2):
        checkpointer.save_checkpoint({"WER": wer})
    saver = BackgroundSaver(checkpointer)
    saver.save_and_keep_only({"WER": 9}, min_keys=["WER"])
    assert len([name for name in names(tmp_path) if not name.startswith(".")]) == 3
    held.set()
    saver.wait()
    assert [c.meta["WER"] for c in checkpointer.find_checkpoints()] == [9, 1]


def failing_finish(monkeypatch):
    def fail(self, names):
        raise CheckpointStorageError(28, "No space left on device")

    monkeypatch.setattr(CheckpointDraft, "finish", fail)


@pytest.mark.parametrize("next_call", ["save_checkpoint", "save_and_keep_only", "wait"])
def test_an_error_surfaces_at_the_next_call_and_only_there(
    tmp_path, checkpointer, monkeypatch, next_call, caplog
):
    saver = BackgroundSaver(checkpointer)
    with monkeypatch.context() as context:
        failing_finish(context)
        saver.save_checkpoint()
        saver._thread.join()
    with pytest.raises(CheckpointError, match="No space left"):
        getattr(saver, next_call)()
    assert "could not be saved" in caplog.text
    assert names(tmp_path) == []
    saver.save_checkpoint()
    saver.wait()
    assert len(checkpointer.list_checkpoints()) == 1


def test_an_error_surfaces_at_the_end_of_a_block(tmp_path, checkpointer, monkeypatch):
    failing_finish(monkeypatch)
    with (
        pytest.raises(CheckpointError, match="No space left"),
        BackgroundSaver(checkpointer) as saver,
    ):
        saver.save_checkpoint()
    assert names(tmp_path) == []


def test_an_error_while_taking_the_snapshot_leaves_nothing(tmp_path, experiment):
    class Failing(torch.nn.Module):
        def state_dict(self, **kwargs):
            raise KeyError("no state")

    saver = BackgroundSaver(Checkpointer(tmp_path, {"live": Live(), "x": Failing()}))
    with pytest.raises(KeyError):
        saver.save_checkpoint()
    assert names(tmp_path) == []


def test_a_negative_number_to_keep_is_refused_at_once(tmp_path, checkpointer):
    with pytest.raises(ValueError, match="num_to_keep is -1"):
        BackgroundSaver(checkpointer).save_and_keep_only(num_to_keep=-1)
    assert names(tmp_path) == []


@pytest.fixture
def copying_held(monkeypatch):
    """The writer does not copy what is left for it until this event is set."""
    event = threading.Event()
    complete = SnapshotBuffers.complete

    def complete_when_allowed(self):
        assert event.wait(60)
        complete(self)

    monkeypatch.setattr(SnapshotBuffers, "complete", complete_when_allowed)
    yield event
    event.set()


def test_a_step_waits_until_the_moments_are_copied(
    tmp_path, checkpointer, experiment, copying_held
):
    saved = experiment.state()
    saver = BackgroundSaver(checkpointer)
    saver.save_checkpoint()
    experiment.optimizer.param_groups[0]["lr"] = 7.0  # as a scheduler does, at any time
    stepped = threading.Thread(target=experiment.step)
    stepped.start()
    stepped.join(0.2)
    assert stepped.is_alive()
    copying_held.set()
    stepped.join(60)
    saver.wait()
    again, _ = resumed(tmp_path)
    assert again.state() == saved != experiment.state()


def test_when_the_copying_fails_a_step_does_not_wait_for_ever(
    checkpointer, experiment, monkeypatch
):
    def fail(self):
        raise OSError("no memory")

    monkeypatch.setattr(SnapshotBuffers, "complete", fail)
    saver = BackgroundSaver(checkpointer)
    saver.save_checkpoint()
    experiment.step()
    with pytest.raises(OSError, match="no memory"):
        saver.wait()
    assert checkpointer.list_checkpoints() == []


@register_checkpoint_hooks
class WithMore:
    """Has more to save than its file holds."""

    def __init__(self):
        self.gradient = torch.zeros(3)

    @mark_as_saver
    def save(self, path):
        Path(path).write_text("")
        write_resume_file(path, {"gradient": self.gradient})

    @mark_as_loader
    def load(self, path, end_of_epoch):
        self.gradient = read_resume_file(path)["gradient"]


def test_what_a_hook_saves_for_an_exact_resume_is_written_beside(tmp_path, held):
    live = WithMore()
    checkpointer = Checkpointer(tmp_path, {"live": live})
    saver = BackgroundSaver(checkpointer)
    saver.save_checkpoint()
    live.gradient += 1
    held.set()
    saver.wait()
    checkpointer.recover_if_possible()
    assert live.gradient.tolist() == [0, 0, 0]
    live.gradient = torch.nn.Linear
    saver.save_checkpoint()
    with pytest.raises(CheckpointError, match=r"recoverable 'live'.*What live\.ckpt\.resume"):
        saver.wait()


def test_without_memory_for_a_snapshot_training_waits(
    tmp_path, checkpointer, experiment, monkeypatch, caplog
):
    def refuse(self, states, delayed):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(SnapshotBuffers, "copy", refuse)
    saver = BackgroundSaver(checkpointer)
    saver.save_checkpoint()
    assert not saver.is_writing
    assert resumed(tmp_path)[0].state() == experiment.state()
    assert "training waits for the save" in caplog.text


def test_a_save_in_which_others_have_a_part_is_made_at_once(tmp_path, experiment):
    threads = []

    def save(obj, path):
        threads.append(threading.current_thread())
        torch.save(obj.state_dict(), path)

    checkpointer = Checkpointer(
        tmp_path, {"model": experiment.model}, custom_save_hooks={"model": save}
    )
    saver = BackgroundSaver(checkpointer)
    saver.save_and_keep_only()
    assert not saver.is_writing
    assert threads == [threading.main_thread()]
    assert len(checkpointer.list_checkpoints()) == 1


PROGRAM = """
import sys, torch
from brain_lightning.parts.checkpoints.background_writer import BackgroundSaver
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
module = torch.nn.Linear(500, 500)
BackgroundSaver(Checkpointer(sys.argv[1], {"module": module})).save_checkpoint()
"""


def test_a_program_that_does_not_wait_still_finishes_its_checkpoint(tmp_path):
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], check=True, timeout=120)
    assert len(Checkpointer(tmp_path).list_checkpoints()) == 1


def buffers_of(saver):
    return {key: buffer.data_ptr() for key, buffer in saver._buffers._buffers.items()}


def prepared(saver, further=None):
    saver.prepare(further)
    saver.wait()
    return buffers_of(saver)


def test_the_first_save_finds_the_memory_that_was_prepared(tmp_path, checkpointer, experiment):
    saver = BackgroundSaver(checkpointer)
    memory = prepared(saver)
    assert names(tmp_path) == []
    saved = experiment.state()
    saver.save_checkpoint()
    saver.wait()
    assert buffers_of(saver) == memory != {}
    assert resumed(tmp_path)[0].state() == saved


def test_memory_for_what_hooks_note_is_prepared_as_well(tmp_path):
    live = WithMore()
    saver = BackgroundSaver(Checkpointer(tmp_path, {"live": live}))
    memory = prepared(saver, {"live.ckpt.resume": {"gradient": torch.zeros(3)}})
    live.gradient += 2
    saver.save_checkpoint()
    saver.wait()
    assert buffers_of(saver) == memory
    assert len(memory) == 1
    assert read_resume_file(next(tmp_path.glob("*/live.ckpt")))["gradient"].tolist() == [2, 2, 2]


def test_tensors_that_are_one_piece_of_memory_are_prepared_as_one(tmp_path):
    tied = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    saver = BackgroundSaver(Checkpointer(tmp_path, {"tied": tied}))
    memory = prepared(saver)
    assert len(memory) == 3
    saver.save_checkpoint()
    saver.wait()
    assert buffers_of(saver) == memory


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory")])
def test_memory_that_cannot_be_had_beforehand_is_no_failure(
    tmp_path, checkpointer, experiment, monkeypatch, error
):
    def refuse(self, states):
        raise error

    monkeypatch.setattr(SnapshotBuffers, "prepare", refuse)
    saver = BackgroundSaver(checkpointer)
    assert prepared(saver) == {}
    saver.save_checkpoint()
    saver.wait()
    assert resumed(tmp_path)[0].state() == experiment.state()


def test_what_cannot_be_saved_is_reported_by_the_save_not_before(tmp_path):
    saver = BackgroundSaver(Checkpointer(tmp_path, {"odd": object()}))
    assert prepared(saver) == {}
    with pytest.raises(CheckpointError, match="'odd'"):
        saver.save_checkpoint()
