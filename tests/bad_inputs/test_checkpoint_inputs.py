"""What cannot be saved or loaded gives one clear error and leaves the files as they were."""

import errno
import os
import resource
from pathlib import Path

import pytest
import torch

from brain_lightning.parts.checkpoints.background_writer import BackgroundSaver
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.errors import (
    CheckpointError,
    CheckpointStorageError,
    DamagedCheckpointError,
)
from brain_lightning.parts.checkpoints.hooks import mark_as_saver
from brain_lightning.parts.checkpoints.resume_file import (
    read_resume_file,
    resume_path,
    write_resume_file,
)
from tests.parts.checkpoints.experiment import Experiment


@pytest.fixture
def experiment():
    return Experiment()


@pytest.fixture
def checkpointer(tmp_path, experiment):
    """A Checkpointer that has saved two checkpoints, one of them under a name."""
    checkpointer = Checkpointer(tmp_path / "save", experiment.recoverables)
    checkpointer.save_checkpoint({"step": 0})
    experiment.step()
    checkpointer.save_checkpoint({"step": 1}, name="latest")
    return checkpointer


def everything(checkpointer):
    folder = checkpointer.checkpoints_dir
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def unchanged(checkpointer):
    """At the end of the test the folder holds what it held at its beginning."""
    before = everything(checkpointer)
    yield
    assert everything(checkpointer) == before
    left = [entry for entry in os.listdir(checkpointer.checkpoints_dir) if entry.startswith(".")]
    assert left == []


@pytest.fixture
def full_disk():
    """No file can grow beyond a kilobyte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def save_beside(checkpointer):
    with BackgroundSaver(checkpointer) as saver:
        saver.save_and_keep_only(name="latest")


SAVES = {
    "new": lambda checkpointer: checkpointer.save_checkpoint(),
    "over another": lambda checkpointer: checkpointer.save_checkpoint(name="latest"),
    "with deletion": lambda checkpointer: checkpointer.save_and_keep_only(),
    "beside": save_beside,
}


@pytest.mark.usefixtures("unchanged", "full_disk")
@pytest.mark.parametrize("way", SAVES)
def test_a_full_disk(checkpointer, way):
    with pytest.raises(CheckpointStorageError) as caught:
        SAVES[way](checkpointer)
    said = str(caught.value)
    assert "The recoverable 'model' could not be saved to" in said
    assert "/model.ckpt: OSError: [Errno 27] File too large" in said
    assert caught.value.errno == errno.EFBIG


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("way", SAVES)
def test_a_disk_that_is_full_when_the_checksums_are_written(checkpointer, way, monkeypatch):
    write_text = Path.write_text

    def write(path, *args, **kwargs):
        if path.name == "checksums.json":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", write)
    with pytest.raises(CheckpointStorageError, match=r"/CKPT\+.* could not be saved: .*No space"):
        SAVES[way](checkpointer)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("way", SAVES)
def test_a_folder_that_can_only_be_read(checkpointer, way, monkeypatch):
    def refuse(path, *args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    with monkeypatch.context() as context:
        context.setattr(os, "mkdir", refuse)
        with pytest.raises(CheckpointStorageError, match=r"No checkpoint .*/save/CKPT.*Read-only"):
            SAVES[way](checkpointer)


@pytest.mark.usefixtures("unchanged")
def test_from_a_folder_that_can_only_be_read_one_can_resume(checkpointer, experiment, monkeypatch):
    state = experiment.state()
    experiment.step()
    hidden = checkpointer.checkpoints_dir / ".CKPT+x.saving"
    hidden.mkdir()

    def refuse(path, *args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    with monkeypatch.context() as context:
        for name in ("mkdir", "rmdir", "rename", "unlink"):
            context.setattr(os, name, refuse)
        Checkpointer(checkpointer.checkpoints_dir, experiment.recoverables).recover_if_possible()
    assert experiment.state() == state
    hidden.rmdir()


@pytest.mark.usefixtures("unchanged")
def test_a_deletion_that_is_refused(checkpointer, monkeypatch):
    def refuse(source, destination):
        raise PermissionError(errno.EACCES, "Permission denied", str(source))

    with monkeypatch.context() as context:
        context.setattr(os, "rename", refuse)
        with pytest.raises(
            CheckpointStorageError, match=r"CKPT\+.* could not be deleted"
        ) as caught:
            checkpointer.delete_checkpoints(num_to_keep=0)
    assert caught.value.errno == errno.EACCES


@pytest.mark.usefixtures("unchanged")
def test_a_checkpoint_that_is_write_protected_stays_when_it_cannot_be_deleted(
    checkpointer, monkeypatch
):
    def refuse(path, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as context:
        context.setattr(os, "unlink", refuse)
        with pytest.raises(CheckpointStorageError, match=r"CKPT\+.* could not be deleted"):
            checkpointer.delete_checkpoints(num_to_keep=0)
    assert len(checkpointer.list_checkpoints()) == 2


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "save").write_text("mine")
    with pytest.raises(OSError, match="save"):
        Checkpointer(tmp_path / "save")
    assert (tmp_path / "save").read_text() == "mine"


class Hookless:
    """Nobody knows how to save it."""


class Unregistered:
    @mark_as_saver
    def save(self, path):
        """Marked, but the class is not registered."""


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("way", SAVES)
def test_an_object_without_hooks(checkpointer, way):
    checkpointer.add_recoverable("thing", Hookless())
    with pytest.raises(CheckpointError, match="save the recoverable 'thing' of type Hookless"):
        SAVES[way](checkpointer)


@pytest.mark.usefixtures("unchanged")
def test_a_class_that_was_not_registered_is_told_so(checkpointer):
    checkpointer.add_recoverable("thing", Unregistered())
    with pytest.raises(RuntimeError, match="not decorated with register_checkpoint_hooks"):
        checkpointer.save_checkpoint()


@pytest.mark.usefixtures("unchanged")
def test_an_object_that_can_be_saved_but_not_loaded(checkpointer, experiment):
    checkpointer.custom_save_hooks["model"] = print
    checkpointer.recoverables["model"] = Hookless()
    before = experiment.optimizer.state_dict()["state"][0]["exp_avg"].clone()
    experiment.step()
    after = experiment.optimizer.state_dict()["state"][0]["exp_avg"].clone()
    with pytest.raises(CheckpointError, match="load the recoverable 'model' of type Hookless"):
        checkpointer.recover_if_possible()
    # It was known before the first of them was loaded.
    now = experiment.optimizer.state_dict()["state"][0]["exp_avg"]
    assert now.equal(after)
    assert not now.equal(before)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("error", [ValueError("odd"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("name", [None, "latest"])
def test_a_hook_that_fails_in_the_middle(checkpointer, error, name):
    def save(obj, path):
        path.write_text("half")
        raise error

    checkpointer.custom_save_hooks["scheduler"] = save
    expected = CheckpointError if isinstance(error, ValueError) else type(error)
    with pytest.raises(expected) as caught:
        checkpointer.save_checkpoint(name=name)
    if expected is CheckpointError:
        assert "'scheduler' could not be saved" in str(caught.value)
        assert str(caught.value).endswith("ValueError: odd")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", ["", "a/b", "../outside", "/tmp/x"])
def test_a_checkpoint_name_that_is_none(checkpointer, name):
    with pytest.raises(ValueError, match="checkpoint name"):
        checkpointer.save_checkpoint(name=name)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", ["", "a/b", "../outside"])
def test_a_recoverable_name_that_is_none(checkpointer, name):
    checkpointer.add_recoverable(name, torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="recoverable name"):
        checkpointer.save_checkpoint()


@pytest.mark.usefixtures("unchanged")
def test_a_meta_value_that_cannot_be_kept(checkpointer):
    with pytest.raises(TypeError, match=r"meta\['stats'\]"):
        checkpointer.save_checkpoint({"stats": object()}, name="latest")


# Loading


def latest(checkpointer):
    return checkpointer.find_checkpoint()


@pytest.mark.parametrize("checksums", [True, False], ids=["checked", "as SpeechBrain saves"])
@pytest.mark.parametrize("bytes_left", [0, 10, 500])
def test_a_truncated_file(checkpointer, experiment, checksums, bytes_left):
    checkpoint = latest(checkpointer)
    file = checkpoint.paramfiles["optimizer"]
    file.write_bytes(file.read_bytes()[:bytes_left])
    if not checksums:
        (checkpoint.path / "checksums.json").unlink()
    before = everything(checkpointer)
    expected = DamagedCheckpointError if checksums else CheckpointError
    with pytest.raises(expected, match="optimizer") as caught:
        checkpointer.load_checkpoint(checkpoint)
    assert str(file) in str(caught.value)
    assert everything(checkpointer) == before
    with pytest.raises(expected, match="These are whole"):
        checkpointer.recover_if_possible(importance_key=lambda c: c.meta["step"])


def make_unreadable(file):
    """Whoever opens it gets an OSError; the superuser, too, as whom tests may run."""
    file.unlink()
    file.symlink_to(file.name)


@pytest.mark.parametrize("checksums", [True, False], ids=["checked", "as SpeechBrain saves"])
def test_a_file_that_cannot_be_read(checkpointer, checksums):
    checkpoint, older = checkpointer.find_checkpoints()
    file = checkpoint.paramfiles["optimizer"]
    make_unreadable(file)
    if not checksums:
        (checkpoint.path / "checksums.json").unlink()
    expected = DamagedCheckpointError if checksums else CheckpointStorageError
    for load in (
        lambda: checkpointer.load_checkpoint(checkpoint),
        lambda: checkpointer.recover_if_possible(max_key="step"),
    ):
        with pytest.raises(expected, match=r"'optimizer'.*Too many levels") as caught:
            load()
        assert str(file) in str(caught.value)
    assert str(older.path) in str(caught.value)
    if checksums:
        with pytest.warns(UserWarning, match=r"optimizer\.ckpt.*cannot be read.*newest whole one"):
            assert checkpointer.recover_if_possible() == older


@pytest.mark.parametrize("name", ["CKPT.yaml", "checksums.json"])
def test_a_meta_file_that_cannot_be_read(checkpointer, name):
    checkpoint, older = checkpointer.find_checkpoints()
    make_unreadable(checkpoint.path / name)
    with pytest.warns(UserWarning, match=f"{name}.*cannot be read.*newest whole one"):
        assert checkpointer.recover_if_possible() == older
    with pytest.raises(DamagedCheckpointError, match=f"{name}.*These are whole") as caught:
        checkpointer.recover_if_possible(max_key="step")
    assert str(older.path) in str(caught.value)


@pytest.mark.parametrize("method", ["exists", "iterdir"])
def test_a_checkpoint_folder_that_cannot_be_looked_into(checkpointer, method, monkeypatch):
    checkpoint, older = checkpointer.find_checkpoints()
    original = getattr(Path, method)

    def refuse(path):
        if checkpoint.path in (path, path.parent):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return original(path)

    if method == "exists":  # then nothing else in it can be opened, either
        make_unreadable(checkpoint.path / "CKPT.yaml")
    with monkeypatch.context() as context:
        context.setattr(Path, method, refuse)
        with pytest.warns(UserWarning, match="cannot be read.*newest whole one") as caught:
            assert checkpointer.recover_if_possible() == older
    assert str(checkpoint.path) in str(caught[0].message)


def test_a_folder_of_checkpoints_that_cannot_be_listed(checkpointer, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as context:
        context.setattr(Path, "iterdir", refuse)
        with pytest.raises(CheckpointStorageError, match="/save cannot be listed: PermissionError"):
            checkpointer.recover_if_possible()


def test_what_an_exact_resume_needs_is_damaged(tmp_path):
    """In a checkpoint without checksums of its own, at each 40th byte or cut there."""
    path = tmp_path / "brain.ckpt"
    write_resume_file(path, {"count": 3, "states": [torch.arange(20), list(range(50))]})
    content = resume_path(path).read_bytes()
    found = 0
    for position in range(0, len(content), 40):
        flipped = bytearray(content)
        flipped[position] ^= 4
        for damaged in (content[:position], bytes(flipped)):
            resume_path(path).write_bytes(damaged)
            try:
                state = read_resume_file(path)
            except ValueError as error:
                found += "brain.ckpt.resume is damaged" in str(error)
            else:  # a flipped bit where nothing depends on it: in the archive's padding
                assert state is not None
                assert state["count"] == 3
                assert state["states"][1] == list(range(50))
    assert found > len(content) // 40
    resume_path(path).unlink()
    resume_path(path).mkdir()
    with pytest.raises(ValueError, match=r"brain\.ckpt\.resume is damaged"):
        read_resume_file(path)


@pytest.mark.parametrize("checksums", [True, False], ids=["checked", "as SpeechBrain saves"])
def test_a_missing_file(checkpointer, experiment, checksums):
    checkpoint = latest(checkpointer)
    checkpoint.paramfiles["optimizer"].unlink()
    if not checksums:
        (checkpoint.path / "checksums.json").unlink()
    before = experiment.state()
    with pytest.raises(CheckpointError, match=r"optimizer\.ckpt.*'optimizer'.*These are whole"):
        checkpointer.recover_if_possible(importance_key=lambda c: c.meta["step"])
    assert experiment.state() == before


@pytest.mark.usefixtures("unchanged")
def test_a_shape_that_does_not_fit(checkpointer, experiment):
    checkpointer.recoverables["model"] = torch.nn.Sequential(torch.nn.Linear(9, 9))
    with pytest.raises(CheckpointError) as caught:
        checkpointer.recover_if_possible()
    said = str(caught.value)
    assert f"'model' could not be loaded from {latest(checkpointer).paramfiles['model']}" in said
    assert "These are whole and can be given to load_checkpoint" in said


def test_the_file_of_another_recoverable(checkpointer):
    checkpoint = latest(checkpointer)
    checkpoint.paramfiles["model"] = checkpoint.paramfiles["scheduler"]
    with pytest.raises(CheckpointError, match=r"'model' could not be .*scheduler\.ckpt"):
        checkpointer.load_checkpoint(checkpoint)


def test_a_checkpoint_that_was_deleted_meanwhile(checkpointer):
    checkpoint = latest(checkpointer)
    checkpointer.delete_checkpoints(num_to_keep=0)
    with pytest.raises(CheckpointStorageError, match=r"'model' could not be loaded"):
        checkpointer.load_checkpoint(checkpoint)


def test_a_meta_file_without_end_of_epoch(checkpointer):
    checkpoint = latest(checkpointer)
    del checkpoint.meta["end-of-epoch"]
    with pytest.raises(CheckpointError, match=r"CKPT\.yaml does not say end-of-epoch"):
        checkpointer.load_checkpoint(checkpoint)
