"""Folders that are whole or not there, and what tidies up after a killed process."""

import os
import threading

import pytest

from brain_lightning.parts.checkpoints import durable_folder
from brain_lightning.parts.checkpoints.checkpoint import is_checkpoint_dir
from brain_lightning.parts.checkpoints.durable_folder import (
    DELETING,
    REPLACED,
    SAVING,
    FolderInTheMaking,
    delete_folder,
    hidden_name,
    remove_tree,
    settle,
)
from tests.parts.checkpoints.experiment import names


def make(path, content):
    path.mkdir(parents=True)
    (path / "CKPT.yaml").write_text(content)
    return path


def content(path):
    return (path / "CKPT.yaml").read_text()


def test_nothing_is_seen_before_it_is_published(tmp_path):
    target = tmp_path / "CKPT+x"
    folder = FolderInTheMaking(target)
    (folder.path / "CKPT.yaml").write_text("new")
    assert not target.exists()
    assert not any(map(is_checkpoint_dir, tmp_path.iterdir()))
    folder.publish()
    assert names(tmp_path) == ["CKPT+x"]
    assert content(target) == "new"


def test_discarding_leaves_nothing_and_the_old_one(tmp_path):
    target = make(tmp_path / "CKPT+x", "old")
    folder = FolderInTheMaking(target)
    (folder.path / "CKPT.yaml").write_text("new")
    folder.discard()
    assert names(tmp_path) == ["CKPT+x"]
    assert content(target) == "old"


def test_publishing_replaces_the_old_one_with_all_its_files(tmp_path):
    target = make(tmp_path / "CKPT+x", "old")
    (target / "old file").write_text("")
    folder = FolderInTheMaking(target)
    (folder.path / "CKPT.yaml").write_text("new")
    folder.publish()
    assert names(tmp_path) == ["CKPT+x"]
    assert names(target) == ["CKPT.yaml"]


def test_when_the_new_one_cannot_take_the_place_the_old_one_stays(tmp_path, monkeypatch):
    target = make(tmp_path / "CKPT+x", "old")
    folder = FolderInTheMaking(target)
    rename = os.rename

    def refuse(source, destination):
        if SAVING in str(source):
            raise PermissionError(13, "refused")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(PermissionError):
        folder.publish()
    assert content(target) == "old"


def test_every_file_and_folder_is_flushed_before_the_rename(tmp_path, monkeypatch):
    events = []
    fsync, rename = os.fsync, os.rename

    def watched_fsync(handle):
        events.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    def watched_rename(source, destination):
        events.append("rename")
        rename(source, destination)

    folder = FolderInTheMaking(tmp_path / "CKPT+x")
    (folder.path / "a").mkdir()
    (folder.path / "a" / "deep").write_text("1")
    (folder.path / "top").write_text("2")
    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    folder.publish()
    hidden = str(hidden_name(tmp_path / "CKPT+x", SAVING))
    before = {f"{hidden}/a/deep", f"{hidden}/a", f"{hidden}/top", hidden}
    assert set(events[:4]) == before
    assert events[4:] == ["rename", str(tmp_path)]


def test_deletion_is_at_once_and_durable(tmp_path, monkeypatch):
    target = make(tmp_path / "CKPT+x", "old")
    removed = []
    monkeypatch.setattr(os, "rmdir", removed.append)
    delete_folder(target)
    assert not target.exists()
    assert removed == [hidden_name(target, DELETING)]
    delete_folder(target)  # is gone already


LEFT_OVERS = {
    "half a save": ({SAVING: "half"}, None),
    "half a save over an old one": ({SAVING: "half", None: "old"}, "old"),
    "replaced, the new one not yet there": ({SAVING: "new", REPLACED: "old"}, "new"),
    "replaced, the new one there": ({None: "new", REPLACED: "old"}, "new"),
    "replaced, the new one lost": ({REPLACED: "old"}, "old"),
    "half a deletion": ({DELETING: "half"}, None),
    "half a deletion, saved again": ({DELETING: "half", None: "new"}, "new"),
}


@pytest.mark.parametrize("case", LEFT_OVERS)
def test_left_overs_are_finished_or_dropped(tmp_path, case):
    found, expected = LEFT_OVERS[case]
    target = tmp_path / "CKPT+x"
    for role, text in found.items():
        make(hidden_name(target, role) if role else target, text)
    reported = settle(tmp_path)
    assert reported == sorted(hidden_name(target, role) for role in found if role)
    assert (content(target) if target.exists() else None) == expected
    assert names(tmp_path) == (["CKPT+x"] if expected else [])


def test_other_hidden_things_are_left_alone(tmp_path):
    for name in (".saving", ".git", "CKPT+x.saving", ".x.savings"):
        (tmp_path / name).mkdir()
    before = names(tmp_path)
    assert settle(tmp_path) == []
    assert names(tmp_path) == before


def test_a_folder_that_is_being_written_is_left_alone(tmp_path):
    folder = FolderInTheMaking(tmp_path / "CKPT+x")
    settle(tmp_path)
    assert folder.path.is_dir()
    with pytest.raises(FileExistsError):
        FolderInTheMaking(tmp_path / "CKPT+x")
    folder.publish()
    assert names(tmp_path) == ["CKPT+x"]


def test_a_child_that_outlives_the_writer_does_not_hold_the_folder(tmp_path):
    folder = FolderInTheMaking(tmp_path / "CKPT+x")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reader, 1)
        os._exit(0)
    folder.publish()
    (tmp_path / "CKPT+x").rename(folder.path)
    assert settle(tmp_path) == [folder.path]
    assert names(tmp_path) == []
    os.write(writer, b"x")
    os.waitpid(child, 0)


def test_links_are_removed_and_not_followed(tmp_path):
    kept = make(tmp_path / "kept", "mine")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(kept)
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "never there")
    assert names(tmp_path) == ["kept"]
    assert content(kept) == "mine"


def test_a_folder_that_has_just_been_made_is_not_taken_for_left_over(tmp_path, monkeypatch):
    """Another process tidies up between its creation and its lock, and waits."""
    tidying = []
    mkdir = os.mkdir

    def mkdir_while_others_tidy_up(path, *arguments):
        mkdir(path, *arguments)
        tidying.append(threading.Thread(target=durable_folder.settle, args=(tmp_path,)))
        tidying[0].start()
        tidying[0].join(0.2)

    monkeypatch.setattr(os, "mkdir", mkdir_while_others_tidy_up)
    folder = durable_folder.FolderInTheMaking(tmp_path / "x")
    monkeypatch.undo()
    tidying[0].join(60)
    assert folder.path.is_dir()
    folder.publish()
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_who_tidies_up_for_ever_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(durable_folder, "_PATIENCE", 0.05)
    with durable_folder._alone_in(tmp_path):
        durable_folder.FolderInTheMaking(tmp_path / "x").publish()
    assert (tmp_path / "x").is_dir()
