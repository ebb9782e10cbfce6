"""What is loaded when some checkpoint is damaged."""

import warnings

import pytest
import torch

from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.errors import CheckpointError, DamagedCheckpointError
from tests.parts.checkpoints.experiment import Experiment, change_byte


@pytest.fixture
def experiment():
    return Experiment()


@pytest.fixture
def checkpointer(tmp_path, experiment):
    return Checkpointer(tmp_path, experiment.recoverables)


@pytest.fixture
def saved(checkpointer, experiment):
    """Three checkpoints; the middle one has the best WER, the newest the best accuracy."""
    checkpoints = []
    for meta in ({"WER": 3, "acc": 1}, {"WER": 1, "acc": 2}, {"WER": 2, "acc": 3}):
        experiment.step()
        checkpoints.append(checkpointer.save_checkpoint(meta))
    return checkpoints


def damage(checkpoint):
    change_byte(checkpoint.paramfiles["optimizer"], 200)


def cut_meta(checkpoint):
    (checkpoint.path / "CKPT.yaml").write_text("WER: [1")


def replace_in_meta(checkpoint, old, new):
    meta = checkpoint.path / "CKPT.yaml"
    text = meta.read_text()
    assert old in text
    meta.write_text(text.replace(old, new))


HARMS = {
    "flip": damage,
    "meta": cut_meta,
    "another time": lambda checkpoint: replace_in_meta(checkpoint, "unixtime: 1", "unixtime: 0"),
    "missing": lambda checkpoint: checkpoint.paramfiles["model"].unlink(),
    "empty meta": lambda checkpoint: (checkpoint.path / "CKPT.yaml").write_text(""),
    "binary meta": lambda checkpoint: (checkpoint.path / "CKPT.yaml").write_bytes(b"\xff\x00"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_the_newest_whole_one_is_loaded_with_a_warning_that_names_both(
    checkpointer, experiment, saved, harm
):
    HARMS[harm](saved[2])
    with pytest.warns(UserWarning, match="newest whole one") as caught:
        found = checkpointer.recover_if_possible()
    assert found == saved[1]
    assert len(caught) == 1
    assert str(saved[2].path) in str(caught[0].message)
    assert str(saved[1].path) in str(caught[0].message)


def test_a_damaged_older_one_is_no_matter(checkpointer, saved):
    damage(saved[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checkpointer.recover_if_possible() == saved[2]


def test_two_damaged_ones_are_both_named(checkpointer, saved):
    damage(saved[2])
    damage(saved[1])
    with pytest.warns(UserWarning, match="newest whole one") as caught:
        assert checkpointer.recover_if_possible() == saved[0]
    assert all(str(checkpoint.path) in str(caught[0].message) for checkpoint in saved)


def test_the_predicate_holds_for_what_is_loaded_instead(checkpointer, saved):
    damage(saved[2])
    with pytest.warns(UserWarning, match="newest whole"):
        found = checkpointer.recover_if_possible(ckpt_predicate=lambda c: c.meta["WER"] != 1)
    assert found == saved[0]


@pytest.mark.parametrize("harm", HARMS)
def test_when_all_are_damaged_training_does_not_begin_anew(checkpointer, experiment, saved, harm):
    for checkpoint in saved:
        HARMS[harm](checkpoint)
    before = experiment.state()
    with pytest.raises(DamagedCheckpointError, match="No other checkpoint there is whole"):
        checkpointer.recover_if_possible()
    assert experiment.state() == before


@pytest.mark.parametrize(
    ("key", "index"),
    [
        ({"min_key": "WER"}, 1),
        ({"max_key": "acc"}, 2),
        ({"importance_key": lambda c: c.meta["acc"]}, 2),
    ],
)
def test_the_best_by_a_key_is_not_replaced_by_another(checkpointer, experiment, saved, key, index):
    damage(saved[index])
    before = experiment.state()
    with pytest.raises(DamagedCheckpointError) as caught:
        checkpointer.recover_if_possible(**key)
    assert experiment.state() == before
    said = str(caught.value)
    assert said.startswith(f"{saved[index].paramfiles['optimizer']} (recoverable 'optimizer')")
    whole = [str(checkpoint.path) for checkpoint in saved if checkpoint is not saved[index]]
    assert all(path in said.split("These are whole")[1] for path in whole)


def test_a_damaged_one_that_is_not_the_best_is_no_matter(checkpointer, saved):
    damage(saved[0])
    assert checkpointer.recover_if_possible(min_key="WER") == saved[1]


def test_a_meta_file_that_cannot_be_read_might_be_the_best(checkpointer, saved):
    cut_meta(saved[0])
    with pytest.raises(DamagedCheckpointError, match=r"CKPT\.yaml cannot be read.*These are whole"):
        checkpointer.recover_if_possible(min_key="WER")


def test_the_best_is_not_missed_when_its_value_was_damaged(checkpointer, saved):
    replace_in_meta(saved[1], "WER: 1", "WER: 9")
    with pytest.raises(DamagedCheckpointError, match=r"CKPT\.yaml has other content"):
        checkpointer.recover_if_possible(min_key="WER")


def test_listing_leaves_it_out_with_a_warning_and_deletion_leaves_it_alone(checkpointer, saved):
    cut_meta(saved[0])
    with pytest.warns(UserWarning, match=r"left out.*CKPT\.yaml cannot be read"):
        assert checkpointer.list_checkpoints() == saved[1:]
    with pytest.warns(UserWarning, match="left out"):
        checkpointer.delete_checkpoints(num_to_keep=0)
    assert saved[0].path.is_dir()
    assert not saved[1].path.exists()


def test_load_checkpoint_checks_first(checkpointer, experiment, saved):
    damage(saved[0])
    before = experiment.state()
    with pytest.raises(DamagedCheckpointError, match=r"optimizer\.ckpt \(recoverable 'optimizer'"):
        checkpointer.load_checkpoint(saved[0])
    assert experiment.state() == before


@pytest.mark.parametrize("allowed", ["partial", "optional", "not wanted"])
def test_a_file_that_was_removed_on_purpose(tmp_path, experiment, saved, allowed):
    saved[2].paramfiles["scheduler"].unlink()
    checkpointer = Checkpointer(tmp_path, {"model": experiment.model})
    if allowed != "not wanted":
        optional = allowed == "optional"
        checkpointer.add_recoverable("scheduler", experiment.scheduler, optional_load=optional)
    checkpointer.allow_partial_load = allowed == "partial"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert checkpointer.recover_if_possible().path == saved[2].path
    assert len(caught) == (allowed == "optional")


def test_the_file_of_a_loader_that_was_saved_is_missed(tmp_path, experiment):
    """Its epoch would begin anew, from a model that has seen a part of it."""
    checkpointer = Checkpointer(
        tmp_path, {**experiment.recoverables, "dataloader": Experiment(3).model}
    )
    older = checkpointer.save_checkpoint()
    newest = checkpointer.save_checkpoint(end_of_epoch=False)
    newest.paramfiles["dataloader"].unlink()
    with pytest.warns(UserWarning, match=r"'dataloader'\) is missing.*Going on from"):
        assert checkpointer.recover_if_possible().path == older.path


def test_what_does_not_fit_is_named_with_what_could_be_used(checkpointer, experiment, saved):
    checkpointer.recoverables["model"] = torch.nn.Linear(2, 2)
    with pytest.raises(CheckpointError) as caught:
        checkpointer.recover_if_possible()
    said = str(caught.value)
    assert f"The recoverable 'model' could not be loaded from {saved[2].path}" in said
    assert "Missing key(s) in state_dict" in said
    assert str(saved[1].path) in said


def test_a_missing_meta_file_is_damage_and_no_beginning(checkpointer, saved):
    """Else training would begin anew, or the best be another one, without a word."""
    newest = checkpointer.find_checkpoint()
    (newest.path / "CKPT.yaml").unlink()
    with pytest.warns(UserWarning, match=r"CKPT\.yaml cannot be read.*Going on from"):
        assert checkpointer.recover_if_possible() is not None
    with pytest.raises(DamagedCheckpointError, match=r"CKPT\.yaml cannot be read.*These are whole"):
        checkpointer.recover_if_possible(max_key="WER")
    for checkpoint in saved:
        (checkpoint.path / "CKPT.yaml").unlink(missing_ok=True)
    with pytest.raises(DamagedCheckpointError, match="No other checkpoint there is whole"):
        checkpointer.recover_if_possible()


def test_an_empty_file_is_called_so(checkpointer, saved):
    newest = checkpointer.find_checkpoint()
    (newest.path / "checksums.json").unlink()  # as SpeechBrain saves
    (newest.path / "model.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"'model'.*model\.ckpt is empty or ends too early"):
        checkpointer.recover_if_possible()
