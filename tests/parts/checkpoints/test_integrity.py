"""Cut and changed files are found before anything is loaded."""

import json
import random
import warnings

import pytest
import torch
import yaml

from brain_lightning.parts.checkpoints.averaging import average_checkpoints
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.errors import DamagedCheckpointError
from brain_lightning.parts.checkpoints.integrity import (
    CHECKSUMS,
    find_damage,
    require_whole_file,
    write_checksums,
)
from tests.parts.checkpoints.experiment import Experiment, change_byte, names


@pytest.fixture
def checkpoint(tmp_path):
    experiment = Experiment()
    experiment.step()
    return Checkpointer(tmp_path, experiment.recoverables).save_checkpoint({"WER": 1.5})


def test_what_was_just_saved_is_whole(checkpoint):
    assert find_damage(checkpoint.path) == []
    listed = json.loads((checkpoint.path / CHECKSUMS).read_text())["files"]
    assert sorted(listed) == sorted(set(names(checkpoint.path)) - {CHECKSUMS})


def files_by_turns(folder, times, seed):
    choose = random.Random(seed)
    files = sorted(folder.iterdir())
    for number in range(times):
        yield files[number % len(files)], choose


def test_two_hundred_cuts_are_all_found(checkpoint):
    for file, choose in files_by_turns(checkpoint.path, 200, seed=1):
        whole = file.read_bytes()
        file.write_bytes(whole[: choose.randrange(len(whole))])
        damages = find_damage(checkpoint.path)
        assert [damage.file for damage in damages] == [file]
        file.write_bytes(whole)
    assert find_damage(checkpoint.path) == []


def test_two_hundred_flipped_bits_are_all_found(checkpoint):
    for file, choose in files_by_turns(checkpoint.path, 200, seed=2):
        position, bit = choose.randrange(file.stat().st_size), choose.randrange(8)
        change_byte(file, position, bit)
        damages = find_damage(checkpoint.path)
        assert [damage.file for damage in damages] == [file], (position, bit)
        change_byte(file, position, bit)
    assert find_damage(checkpoint.path) == []


def test_a_flipped_bit_is_found_when_loading(tmp_path):
    """The whole way: two checkpoints, and a bit flipped in the newer one."""
    experiment = Experiment()
    checkpointer = Checkpointer(tmp_path, experiment.recoverables)
    older = checkpointer.save_checkpoint()
    state = experiment.state()
    experiment.step()
    newer = checkpointer.save_checkpoint()
    for file, choose in files_by_turns(newer.path, 20, seed=3):
        position, bit = choose.randrange(file.stat().st_size), choose.randrange(8)
        change_byte(file, position, bit)
        with pytest.warns(UserWarning, match="newest whole one") as caught:
            assert checkpointer.recover_if_possible() == older
        assert experiment.state() == state
        said = str(caught[0].message)
        assert str(newer.path) in said
        assert str(older.path) in said
        change_byte(file, position, bit)


def test_damage_names_file_and_recoverable(checkpoint):
    change_byte(checkpoint.paramfiles["model"], 100)
    (checkpoint.path / "optimizer.ckpt").unlink()
    changed, missing = find_damage(checkpoint.path)
    assert str(changed) == (
        f"{checkpoint.path / 'model.ckpt'} (recoverable 'model') has other content than was saved "
        "(its checksum differs)"
    )
    assert str(missing).endswith("optimizer.ckpt (recoverable 'optimizer') is missing")
    assert missing.is_missing


def test_files_of_hooks_in_folders_are_checked_too(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "weights").write_bytes(b"abc")
    write_checksums(tmp_path, 1.0)
    change_byte(tmp_path / "adapter" / "weights", 1)
    (damage,) = find_damage(tmp_path)
    assert (damage.file, damage.recoverable) == (tmp_path / "adapter" / "weights", None)


def test_a_checkpoint_without_checksums_is_taken_as_it_is(checkpoint):
    (checkpoint.path / CHECKSUMS).unlink()
    change_byte(checkpoint.paramfiles["model"], 100)
    assert find_damage(checkpoint.path) == []
    require_whole_file(checkpoint.paramfiles["model"])


def test_another_save_over_ours_is_not_damage(checkpoint):
    meta = checkpoint.path / "CKPT.yaml"
    later = yaml.dump(dict(checkpoint.meta, unixtime=checkpoint.meta["unixtime"] + 987.654321))
    torch.save({"other": 1}, checkpoint.paramfiles["model"])
    assert find_damage(checkpoint.path) != []
    meta.write_text(later)
    assert find_damage(checkpoint.path) == []
    meta.write_text(later[:-3] + "\nx: [")
    assert len(find_damage(checkpoint.path)) == 2


def test_another_save_of_the_same_tensors_over_ours_is_not_damage(checkpoint):
    meta = checkpoint.path / "CKPT.yaml"
    later = dict(checkpoint.meta, unixtime=checkpoint.meta["unixtime"] + 987.654321)
    meta.write_text(yaml.dump(later))
    assert find_damage(checkpoint.path) == []


def test_a_changed_digit_of_the_time_alone_is_damage(checkpoint):
    meta = checkpoint.path / "CKPT.yaml"
    meta.write_text(meta.read_text().replace("unixtime: 1", "unixtime: 9"))
    assert [damage.file for damage in find_damage(checkpoint.path)] == [meta]
    change_byte(checkpoint.paramfiles["model"], 100)
    assert len(find_damage(checkpoint.path)) == 2  # two flipped bits are no other save


def test_a_single_file_is_checked_before_averaging(checkpoint):
    change_byte(checkpoint.paramfiles["optimizer"], 100)
    average_checkpoints([checkpoint], "model")
    with pytest.raises(DamagedCheckpointError, match=r"optimizer\.ckpt.*checksum differs"):
        average_checkpoints([checkpoint], "optimizer")
    (checkpoint.path / CHECKSUMS).write_text("{}")
    with pytest.raises(DamagedCheckpointError, match=r"checksums\.json is not what was saved"):
        average_checkpoints([checkpoint], "model")


def test_a_file_without_checksum_is_taken_as_it_is(checkpoint):
    (checkpoint.path / "later.ckpt").write_bytes(b"x")
    require_whole_file(checkpoint.path / "later.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_damage(checkpoint.path) == []
