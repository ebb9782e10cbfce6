"""Our Checkpointer and SpeechBrain's given the same calls."""

import inspect
import logging
import time
from collections import OrderedDict
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import yaml
from speechbrain.dataio.dataloader import SaveableDataLoader
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.nnet.schedulers import NewBobScheduler, NoamScheduler
from speechbrain.processing.features import InputNormalization
from speechbrain.utils import checkpoints as speechbrain
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.parameter_transfer import Pretrainer

from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.hooks import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from tests.parts.checkpoints.experiment import Experiment, flattened, names

LIBRARIES = {"ours": Checkpointer, "theirs": speechbrain.Checkpointer}


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]


@pytest.fixture
def clock(monkeypatch):
    """Seconds go by only when asked."""
    now = [1_700_000_000.25]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def test_the_methods_have_the_arguments_that_speechbrain_has():
    for name, method in inspect.getmembers(speechbrain.Checkpointer, inspect.isfunction):
        if name.startswith("_") and name != "__init__":
            continue
        expected = inspect.signature(method).parameters
        given = inspect.signature(getattr(Checkpointer, name)).parameters
        assert [*given][: len(expected)] == [*expected], name
        assert [p.kind for p in given.values()][: len(expected)] == [
            p.kind for p in expected.values()
        ]
        assert [*given][len(expected) :] in ([], ["device"]), name
        for key, parameter in expected.items():
            empty_here = given[key].default in (None, ())
            same = parameter.default == given[key].default
            assert same or (parameter.default in ([], {}) and empty_here) or "importance" in key


def test_a_subclass_is_called_by_the_names_of_the_arguments(library, tmp_path):
    class Own(library):
        def save_checkpoint(self, *, name, meta, **others):
            return super().save_checkpoint(meta={**meta, "own": True}, name=name, **others)

        def find_checkpoints(self, *, ckpt_predicate=None, **others):
            return super().find_checkpoints(ckpt_predicate=ckpt_predicate, **others)

    checkpointer = Own(tmp_path, {"counter": EpochCounter(2)})
    checkpointer.save_and_keep_only(meta={"loss": 1.0}, min_keys=["loss"], name="first")
    found = checkpointer.find_checkpoint(min_key="loss")
    assert found.meta["own"]
    assert found.path.name == "CKPT+first"


def test_what_a_subclass_hides_is_neither_deleted_nor_recovered(library, tmp_path):
    """Overridden methods are called where SpeechBrain's own methods call them."""

    class Hiding(library):
        loaded: ClassVar = []

        def find_checkpoints(self, *args, **others):
            found = super().find_checkpoints(*args, **others)
            return [each for each in found if "hidden" not in each.path.name]

        def load_checkpoint(self, checkpoint, *others):
            self.loaded.append(checkpoint.path.name)
            return super().load_checkpoint(checkpoint, *others)

    counter = EpochCounter(9)
    checkpointer = Hiding(tmp_path, {"counter": counter})
    for name in ("one", "two", "hidden"):
        next(iter(counter))
        checkpointer.save_checkpoint(meta={"loss": counter.current}, name=name)
    checkpointer.delete_checkpoints(num_to_keep=1, min_keys=["loss"], importance_keys=[])
    assert {each.path.name for each in checkpointer.list_checkpoints()} == {
        "CKPT+one",
        "CKPT+hidden",
    }
    counter.current = 0
    assert checkpointer.recover_if_possible(max_key="loss").path.name == "CKPT+one"
    assert counter.current == 1
    assert Hiding.loaded == ["CKPT+one"]


# What is on the disk


def both(tmp_path, recoverables):
    """One Checkpointer of each library, each in a folder of its own."""
    return {
        name: cls(tmp_path / name, recoverables() if callable(recoverables) else recoverables)
        for name, cls in LIBRARIES.items()
    }


def folder_contents(folder: Path) -> dict:
    """What a folder of checkpoints holds, without what is ours in addition."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {
        str(file.relative_to(folder)): content(file)
        for file in files
        if file.name != "checksums.json"
    }


def content(file: Path):
    if file.suffix == ".yaml":
        return file.read_text()
    return flattened(torch.load(file, weights_only=True))


def test_the_same_save_writes_the_same_files(tmp_path, clock):
    experiment = Experiment()
    experiment.step(3)
    meta = {"WER": 12.5, "epoch": 3, "note": "as it is", "nested": {"a": [1, 2.5, None, True]}}
    for checkpointer in both(tmp_path, experiment.recoverables).values():
        checkpointer.save_checkpoint(meta)
        checkpointer.save_checkpoint(end_of_epoch=False)
        checkpointer.save_checkpoint(meta={"WER": 1}, name="best")
    assert folder_contents(tmp_path / "ours") == folder_contents(tmp_path / "theirs")
    assert len(names(tmp_path / "ours")) == 3


def test_a_checkpoint_is_returned_and_listed_as_there(tmp_path, clock):
    experiment = Experiment()
    seen = {}
    for name, checkpointer in both(tmp_path, experiment.recoverables).items():
        saved = checkpointer.save_checkpoint({"WER": 1.0})
        assert saved.path.parent == tmp_path / name
        assert saved in checkpointer.list_checkpoints()
        assert {saved: 1}[checkpointer.list_checkpoints()[0]] == 1
        seen[name] = (
            saved.path.name,
            saved.meta,
            {key: path.name for key, path in saved.paramfiles.items()},
            list(saved.paramfiles),
            hash(saved) == hash(saved.path),
        )
        assert all(path.is_file() for path in saved.paramfiles.values())
    assert seen["ours"] == seen["theirs"]


def test_checkpoints_are_listed_by_their_names_and_there_as_the_folder_has_them(
    tmp_path, monkeypatch
):
    listed = Path.iterdir
    found = {}
    for name, checkpointer in both(tmp_path, Experiment().recoverables).items():
        for each in "bca":
            checkpointer.save_checkpoint(name=each)
        monkeypatch.setattr(Path, "iterdir", lambda folder: sorted(listed(folder), reverse=True))
        found[name] = [each.path.name for each in checkpointer.list_checkpoints()]
        monkeypatch.undo()
    assert found["ours"] == ["CKPT+a", "CKPT+b", "CKPT+c"]
    assert found["theirs"] == ["CKPT+c", "CKPT+b", "CKPT+a"]


def test_a_later_save_with_the_same_name_replaces_the_earlier(tmp_path):
    experiment = Experiment()
    states = {}
    for name, checkpointer in both(tmp_path, experiment.recoverables).items():
        checkpointer.save_checkpoint({"step": 1}, name="latest")
        experiment.step()
        checkpointer.save_checkpoint({"step": 2}, name="latest")
        (found,) = checkpointer.list_checkpoints()
        states[name] = found.meta["step"]
        assert found.path.name == "CKPT+latest"
    assert states == {"ours": 2, "theirs": 2}
    assert names(tmp_path / "ours") == ["CKPT+latest"]


def test_a_replaced_checkpoint_keeps_no_file_of_the_former_one(tmp_path):
    experiment = Experiment()
    checkpointer = Checkpointer(tmp_path, experiment.recoverables)
    checkpointer.save_checkpoint(name="x")
    del checkpointer.recoverables["scheduler"]
    saved = checkpointer.save_checkpoint(name="x")
    assert names(saved.path) == ["CKPT.yaml", "checksums.json", "model.ckpt", "optimizer.ckpt"]


def test_saving_in_a_folder_that_was_removed_meanwhile_creates_it(tmp_path, library):
    checkpointer = library(tmp_path / "a" / "b", {"model": torch.nn.Linear(1, 1)})
    (tmp_path / "a" / "b").rmdir()
    assert checkpointer.save_checkpoint().path.is_dir()


def test_another_folder_can_be_set_as_brain_does_in_debug_mode(tmp_path, library):
    checkpointer = library(tmp_path / "first", {"model": torch.nn.Linear(1, 1)})
    (tmp_path / "second").mkdir()
    checkpointer.checkpoints_dir = tmp_path / "second"
    assert checkpointer.save_checkpoint().path.parent == tmp_path / "second"


# Keeping and deleting

SAVES = [{"WER": 5.0, "acc": 1}, {"WER": 3.0, "acc": 9}, {"WER": 4.0, "acc": 2}, {"acc": 3}]
KEEPING = {
    "default": {},
    "min": {"min_keys": ["WER"]},
    "max": {"max_keys": ["acc"]},
    "both": {"min_keys": ["WER"], "max_keys": ["acc"], "num_to_keep": 2},
    "not recent": {"keep_recent": False, "min_keys": ["WER"]},
    "nothing": {"keep_recent": False},
    "zero": {"num_to_keep": 0, "min_keys": ["WER"]},
    "predicate": {"ckpt_predicate": lambda c: c.meta.get("acc", 0) > 1},
    "importance": {"importance_keys": [lambda c: -c.meta["unixtime"]], "keep_recent": False},
    "importance and recent": {"importance_keys": [lambda c: -c.meta["unixtime"]]},
}


@pytest.mark.parametrize("keeping", KEEPING)
def test_the_same_checkpoints_are_kept(tmp_path, clock, keeping):
    kept = {}
    for name, checkpointer in both(tmp_path, {"model": torch.nn.Linear(1, 1)}).items():
        clock[0] = 1_700_000_000.25
        kept[name] = []
        for meta in SAVES:
            clock[0] += 10
            options = {
                key: list(value) if isinstance(value, list) else value
                for key, value in KEEPING[keeping].items()
            }
            # In SpeechBrain the default list of importance keys grows from call to call.
            options.setdefault("importance_keys", [])
            assert checkpointer.save_and_keep_only(meta, **options) is None
            kept[name].append(names(tmp_path / name))
    assert kept["ours"] == kept["theirs"]


def test_lists_that_are_given_are_not_changed_and_no_call_changes_the_next(tmp_path):
    checkpointer = Checkpointer(tmp_path, {"model": torch.nn.Linear(1, 1)})
    keys = [lambda c: c.meta["unixtime"]]
    checkpointer.save_and_keep_only(importance_keys=keys)
    assert len(keys) == 1
    for _ in range(3):
        checkpointer.save_and_keep_only(keep_recent=False)
    # Without any key nothing is deleted, however often keys were used before.
    assert len(checkpointer.list_checkpoints()) == 4


def test_a_negative_number_to_keep_is_refused_and_nothing_is_deleted(tmp_path, library):
    checkpointer = library(tmp_path, {"model": torch.nn.Linear(1, 1)})
    checkpointer.save_checkpoint()
    with pytest.raises(ValueError):  # noqa: PT011
        checkpointer.delete_checkpoints(num_to_keep=-1)
    assert len(checkpointer.list_checkpoints()) == 1


def test_deletion_leaves_other_things_in_the_folder_alone(tmp_path, library):
    (tmp_path / "CKPT+no meta file").mkdir()
    (tmp_path / "train_log.txt").write_text("mine")
    (tmp_path / ".hidden").mkdir()
    checkpointer = library(tmp_path, {"model": torch.nn.Linear(1, 1)})
    checkpointer.save_checkpoint()
    checkpointer.delete_checkpoints(num_to_keep=0)
    assert names(tmp_path) == [".hidden", "CKPT+no meta file", "train_log.txt"]


def test_saves_and_deletions_are_logged_at_the_given_level(tmp_path, library, caplog):
    checkpointer = library(tmp_path, {"model": torch.nn.Linear(1, 1)})
    caplog.set_level(logging.DEBUG)
    for level in (logging.INFO, logging.WARNING):
        caplog.clear()
        checkpointer.save_and_keep_only(verbosity=level, end_of_epoch=False)
        (saved,) = [record for record in caplog.records if "Saved an" in record.message]
        assert saved.levelno == level
        assert "intra-epoch" in saved.message
    deleted = [record for record in caplog.records if "Deleted checkpoint" in record.message]
    assert [record.levelno for record in deleted] == [logging.WARNING]


# Finding


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"min_key": "WER"},
        {"max_key": "WER"},
        {"max_key": "acc"},
        {"min_key": "absent"},
        {"importance_key": lambda c: c.meta["acc"]},
        {"ckpt_predicate": lambda c: "WER" in c.meta},
        {"min_key": "acc", "ckpt_predicate": lambda c: "WER" in c.meta},
        {"max_key": "acc", "ckpt_predicate": lambda c: False},
    ],
)
@pytest.mark.parametrize("number", [None, 0, 1, 2, 9])
def test_the_same_checkpoints_are_found_in_the_same_order(tmp_path, clock, choice, number):
    writer = Checkpointer(tmp_path, {"model": torch.nn.Linear(1, 1)})
    for meta in SAVES:
        clock[0] += 10
        writer.save_checkpoint(meta)
    found = {
        name: [
            checkpoint.path.name
            for checkpoint in cls(tmp_path).find_checkpoints(**choice, max_num_checkpoints=number)
        ]
        for name, cls in LIBRARIES.items()
    }
    assert found["ours"] == found["theirs"]
    first = {name: cls(tmp_path).find_checkpoint(**choice) for name, cls in LIBRARIES.items()}
    assert first["ours"] == first["theirs"]


def test_a_key_beside_an_importance_key_is_refused(tmp_path, library):
    with pytest.raises(ValueError, match="one of"):
        library(tmp_path).find_checkpoint(importance_key=lambda c: 0, min_key="WER")


def test_both_keys_mean_the_first_as_in_speechbrain_but_with_a_warning(tmp_path):
    writer = Checkpointer(tmp_path, {"model": torch.nn.Linear(1, 1)})
    for meta in SAVES:
        writer.save_checkpoint(meta)
    expected = speechbrain.Checkpointer(tmp_path).find_checkpoint(max_key="acc", min_key="WER")
    with pytest.warns(UserWarning, match="only max_key is used"):
        assert writer.find_checkpoint(max_key="acc", min_key="WER") == expected


# Each reads the other's


@pytest.mark.parametrize("reader", LIBRARIES)
@pytest.mark.parametrize("writer", LIBRARIES)
def test_training_goes_on_with_the_same_numbers(tmp_path, writer, reader):
    saved = Experiment(seed=1)
    saved.step(3)
    LIBRARIES[writer](tmp_path, saved.recoverables).save_and_keep_only({"WER": 1})
    resumed = Experiment(seed=2)
    LIBRARIES[reader](tmp_path, resumed.recoverables).recover_if_possible()
    assert resumed.state() == saved.state()
    assert resumed.step(3) == saved.step(3)


def their_objects():
    normalizer = InputNormalization()
    encoder = CategoricalEncoder()
    encoder.add_unk()
    return {
        "counter": EpochCounter(5),
        "noam": NoamScheduler(0.1, 10),
        "newbob": NewBobScheduler(0.1),
        "normalizer": normalizer,
        "encoder": encoder,
        "loader": SaveableDataLoader(list(range(8)), batch_size=2),
    }


@pytest.mark.parametrize("reader", LIBRARIES)
@pytest.mark.parametrize("writer", LIBRARIES)
def test_objects_of_speechbrain_are_recoverables(tmp_path, writer, reader):
    objects = their_objects()
    epochs = iter(objects["counter"])
    next(epochs)
    next(epochs)
    objects["newbob"](2.0)
    objects["newbob"](3.0)
    objects["noam"].n_steps = 7
    objects["normalizer"](torch.arange(6.0).reshape(1, 3, 2), torch.ones(1))
    objects["encoder"].add_label("a")
    batches = iter(objects["loader"])
    next(batches)
    LIBRARIES[writer](tmp_path, objects).save_checkpoint(end_of_epoch=False)

    restored = their_objects()
    LIBRARIES[reader](tmp_path, restored).recover_if_possible()
    assert next(iter(restored["counter"])) == 2  # the epoch that was not complete
    assert restored["noam"].n_steps == 7
    assert restored["newbob"].hyperparam_value == objects["newbob"].hyperparam_value < 0.1
    assert restored["normalizer"].glob_mean.equal(objects["normalizer"].glob_mean)
    assert restored["encoder"].lab2ind == objects["encoder"].lab2ind
    assert [batch.tolist() for batch in restored["loader"]] == [[2, 3], [4, 5], [6, 7]]


def test_the_pretrainer_of_speechbrain_reads_ours(tmp_path):
    saved, other = Experiment(seed=1), Experiment(seed=2)
    checkpoint = Checkpointer(tmp_path / "save", saved.recoverables).save_checkpoint()
    pretrainer = Pretrainer(
        collect_in=str(tmp_path / "collected"),
        loadables={"model": other.model},
        paths={"model": str(checkpoint.paramfiles["model"])},
    )
    pretrainer.collect_files()
    pretrainer.load_collected()
    assert flattened(other.model.state_dict()) == flattened(saved.model.state_dict())


@register_checkpoint_hooks
class Ours:
    """A recoverable of ours with hooks of its own."""

    def __init__(self, value):
        self.value = value

    @mark_as_saver
    def save(self, path):
        Path(path).write_text(self.value)

    @mark_as_loader
    def load(self, path, end_of_epoch):
        self.value = f"{Path(path).read_text()} {end_of_epoch}"


@pytest.mark.parametrize("end_of_epoch", [True, False])
def test_objects_of_ours_are_recoverables_there(tmp_path, library, end_of_epoch):
    library(tmp_path, {"x": Ours("text")}).save_checkpoint(end_of_epoch=end_of_epoch)
    restored = Ours("")
    library(tmp_path, {"x": restored}).recover_if_possible()
    assert restored.value == f"text {end_of_epoch}"


def test_speechbrain_saving_over_a_named_checkpoint_of_ours_is_read(tmp_path):
    experiment = Experiment()
    ours = Checkpointer(tmp_path, experiment.recoverables)
    ours.save_checkpoint(name="latest")
    experiment.step()
    speechbrain.Checkpointer(tmp_path, experiment.recoverables).save_checkpoint(name="latest")
    resumed = Experiment(seed=9)
    Checkpointer(tmp_path, resumed.recoverables).recover_if_possible()
    assert resumed.state() == experiment.state()


# Hooks


def test_custom_hooks_go_first_and_are_called_in_order(tmp_path, library):
    calls = []

    def save(obj, path):
        calls.append(("save", obj, path.name))
        path.write_text("custom")

    def load(obj, path, end_of_epoch):
        calls.append(("load", obj, path.name, end_of_epoch))

    module = torch.nn.Linear(1, 1)
    checkpointer = library(
        tmp_path,
        OrderedDict(b=3, a=module),
        custom_load_hooks={"b": load, "a": load},
        custom_save_hooks={"b": save},
    )
    checkpointer.add_recoverable("c", "text", custom_load_hook=load, custom_save_hook=save)
    saved = checkpointer.save_checkpoint()
    assert (saved.path / "c.ckpt").read_text() == "custom"
    checkpointer.load_checkpoint(saved)
    assert calls == [
        ("save", 3, "b.ckpt"),
        ("save", "text", "c.ckpt"),
        ("load", 3, "b.ckpt", True),
        ("load", module, "a.ckpt", True),
        ("load", "text", "c.ckpt", True),
    ]


def test_the_hooks_given_at_construction_are_not_shared(tmp_path, library):
    hooks = {}
    checkpointer = library(tmp_path, custom_load_hooks=hooks, custom_save_hooks=hooks)
    checkpointer.add_recoverable("x", 1, custom_load_hook=print, custom_save_hook=print)
    assert hooks == {}


def test_a_file_given_by_hand_in_a_checkpoint_is_loaded(tmp_path, library):
    saved, resumed = Experiment(seed=1), Experiment(seed=2)
    checkpointer = library(tmp_path, resumed.recoverables)
    checkpoint = checkpointer.save_checkpoint()
    torch.save(saved.model.state_dict(), tmp_path / "elsewhere.pt")
    checkpoint.paramfiles["model"] = tmp_path / "elsewhere.pt"
    checkpointer.load_checkpoint(checkpoint)
    assert flattened(resumed.model.state_dict()) == flattened(saved.model.state_dict())


def test_old_parameter_names_are_renamed(tmp_path, library):
    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Module()
            self.layer.multihead_attn = torch.nn.Linear(1, 1)
            self.layer.convs_intermediate = torch.nn.Linear(1, 1)

    module = Attention()
    checkpointer = library(tmp_path, {"model": module})
    checkpoint = speechbrain.Checkpointer(tmp_path, {"model": module}).save_checkpoint()
    old = {
        key.replace("multihead", "mutihead").replace("intermediate", "intermedite"): value + 1
        for key, value in module.state_dict().items()
    }
    torch.save(old, checkpoint.paramfiles["model"])
    expected = [value + 1 for value in module.state_dict().values()]
    checkpointer.load_checkpoint(checkpoint)
    assert flattened(list(module.state_dict().values())) == flattened(expected)


# What may be missing


def test_nothing_to_recover_is_no_error(tmp_path, library):
    assert library(tmp_path, {"model": torch.nn.Linear(1, 1)}).recover_if_possible() is None


def lacking(tmp_path, name, library, **options):
    """A Checkpointer that wants ``name`` beside what was saved, and what was saved."""
    saved = Experiment(seed=1)
    library(tmp_path, {"model": saved.model}).save_checkpoint()
    model = torch.nn.Sequential(*Experiment(seed=2).model)
    checkpointer = library(tmp_path, {"model": model}, **options)
    return checkpointer, saved, model


def test_partial_load_is_silent(tmp_path, library):
    checkpointer, saved, model = lacking(tmp_path, "x", library, allow_partial_load=True)
    checkpointer.add_recoverable("x", torch.nn.Linear(1, 1))
    checkpointer.recover_if_possible()
    assert flattened(model.state_dict()) == flattened(saved.model.state_dict())


@pytest.mark.parametrize(("name", "optional"), [("a-dataloader-b", False), ("x", True)])
def test_dataloaders_and_optional_ones_may_be_missing_with_a_warning(
    tmp_path, library, name, optional
):
    checkpointer, saved, model = lacking(tmp_path, name, library)
    checkpointer.add_recoverable(name, torch.nn.Linear(1, 1), optional_load=optional)
    with pytest.warns(UserWarning, match=name):
        checkpointer.recover_if_possible()
    assert flattened(model.state_dict()) == flattened(saved.model.state_dict())


def test_another_one_may_not(tmp_path, library):
    checkpointer, _, _ = lacking(tmp_path, "x", library)
    checkpointer.add_recoverable("x", torch.nn.Linear(1, 1))
    with pytest.raises(RuntimeError, match="x"):
        checkpointer.recover_if_possible()


def test_nor_one_that_was_added_in_a_mapping(tmp_path, library):
    """SpeechBrain's error is another one here: it does not find the name among the optional."""
    checkpointer, _, _ = lacking(tmp_path, "x", library)
    checkpointer.add_recoverables({"x": torch.nn.Linear(1, 1)})
    with pytest.raises(KeyError, match="x"):
        checkpointer.recover_if_possible()


def test_what_is_missing_is_named_with_what_there_is(tmp_path):
    checkpointer, _, _ = lacking(tmp_path, "x", Checkpointer)
    checkpointer.add_recoverables({"x": torch.nn.Linear(1, 1)})
    with pytest.raises(RuntimeError, match=r"x\.ckpt.*'x'.*\['model'\].*allow_partial_load"):
        checkpointer.recover_if_possible()


def test_recoverables_that_are_no_mapping_are_refused(tmp_path, library):
    with pytest.raises(AttributeError, match="mapping"):
        library(tmp_path, [torch.nn.Linear(1, 1)])


def test_the_device_that_older_recipes_pass_is_accepted_and_explained(tmp_path):
    experiment = Experiment()
    checkpointer = Checkpointer(tmp_path, experiment.recoverables)
    saved = checkpointer.save_checkpoint()
    before = experiment.state()
    experiment.step()
    with pytest.warns(UserWarning, match="device='cpu' is not needed any more and ignored"):
        assert checkpointer.recover_if_possible(device="cpu") == saved
    assert experiment.state() == before
    with pytest.warns(UserWarning, match="device=") as caught:
        checkpointer.load_checkpoint(saved, device=torch.device("cpu"))
    assert caught[0].filename == __file__


def test_meta_values_of_numpy_and_torch_are_kept_as_numbers(tmp_path):
    numpy = pytest.importorskip("numpy")
    checkpointer = Checkpointer(tmp_path, {"model": torch.nn.Linear(1, 1)})
    checkpointer.save_checkpoint({"WER": numpy.float64(1.5), "loss": torch.tensor(0.25)})
    for library in LIBRARIES.values():
        (found,) = library(tmp_path).list_checkpoints()
        assert (found.meta["WER"], found.meta["loss"]) == (1.5, 0.25)
    text = (found.path / "CKPT.yaml").read_text()
    assert yaml.safe_load(text) == found.meta


def test_names_with_slashes_are_refused(tmp_path):
    model = torch.nn.Linear(1, 1)
    for name in ("a/b", ""):
        with pytest.raises(ValueError, match=r"cannot be part of a folder's name"):
            Checkpointer(tmp_path, {"model": model}).save_checkpoint(name=name)
        with pytest.raises(ValueError, match="cannot be the name of a file"):
            Checkpointer(tmp_path, {name: model}).save_checkpoint()
    assert list(tmp_path.iterdir()) == []
