"""Saving and loading modules, optimizers, schedulers and scalers."""

import logging
import pickle
import warnings

import pytest
import torch
from speechbrain.utils import checkpoints as speechbrain
from torch.optim import lr_scheduler

from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.errors import CheckpointError
from brain_lightning.parts.checkpoints.torch_hooks import (
    load_plain,
    torch_parameter_transfer,
    torch_patched_state_dict_load,
)
from tests.parts.checkpoints.experiment import flattened

LIBRARIES = {"ours": Checkpointer, "theirs": speechbrain.Checkpointer}


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.9)


SCHEDULERS = {
    "step": lambda o: lr_scheduler.StepLR(o, 2),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "cosine": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 1.0, 20),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [2]
    ),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=3),
    "cyclic with function": lambda o: lr_scheduler.CyclicLR(
        o, 0.01, 0.1, step_size_up=3, scale_fn=lambda x: 0.5, scale_mode="cycle"
    ),
}


def rates(scheduler, steps):
    found = []
    for _ in range(steps):
        scheduler.optimizer.step()
        scheduler.step()
        found.append(scheduler.get_last_lr())
    return found


@pytest.mark.parametrize("writer", LIBRARIES)
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_a_scheduler_goes_on_where_it_was(tmp_path, kind, writer):
    make = SCHEDULERS[kind]
    scheduler = make(optimizer())
    rates(scheduler, 4)
    recoverables = {"optimizer": scheduler.optimizer, "scheduler": scheduler}
    LIBRARIES[writer](tmp_path, recoverables).save_checkpoint()
    resumed = make(optimizer())
    recoverables = {"optimizer": resumed.optimizer, "scheduler": resumed}
    Checkpointer(tmp_path, recoverables).recover_if_possible()
    assert rates(resumed, 6) == rates(scheduler, 6)


def test_the_marker_that_speechbrain_wrote_for_older_versions_of_torch_does_no_harm(tmp_path):
    scheduler = SCHEDULERS["cyclic"](optimizer())
    rates(scheduler, 4)
    checkpointer = Checkpointer(tmp_path, {"scheduler": scheduler})
    checkpoint = checkpointer.save_checkpoint()
    state = scheduler.state_dict() | {"_scale_fn_ref": "WEAKREF"}
    torch.save(state, checkpoint.paramfiles["scheduler"])
    (checkpoint.path / "checksums.json").unlink()
    expected = rates(scheduler, 3)
    checkpointer.recover_if_possible()
    scheduler.optimizer.param_groups[0]["lr"] = 0.1
    assert rates(scheduler, 3) == expected


def test_plateau_and_scaler_go_on(tmp_path):
    def make():
        plateau = lr_scheduler.ReduceLROnPlateau(optimizer(), patience=1)
        return {"plateau": plateau, "scaler": torch.amp.GradScaler("cpu", init_scale=4.0)}

    saved, resumed = make(), make()
    for loss in (1.0, 2.0, 3.0):
        saved["plateau"].step(loss)
    saved["scaler"].scale(torch.ones(1))
    saved["scaler"].update(8.0)
    Checkpointer(tmp_path, saved).save_checkpoint()
    Checkpointer(tmp_path, resumed).recover_if_possible()
    assert resumed["plateau"].state_dict() == saved["plateau"].state_dict()
    assert resumed["scaler"].get_scale() == saved["scaler"].get_scale() == 8.0


@pytest.mark.parametrize("library", LIBRARIES.values())
def test_saving_an_object_without_state_is_logged(tmp_path, library, caplog):
    with caplog.at_level(logging.WARNING):
        library(tmp_path, {"relu": torch.nn.ReLU()}).save_checkpoint()
    assert "Saving an empty state_dict for ReLU()" in caplog.text


def test_transfer_takes_what_fits_and_logs_the_rest(tmp_path, caplog):
    saved = torch.nn.ModuleDict({"a": torch.nn.Linear(1, 1), "b": torch.nn.Linear(1, 1)})
    torch.save(saved.state_dict(), tmp_path / "x.ckpt")
    module = torch.nn.ModuleDict({"a": torch.nn.Linear(1, 1), "c": torch.nn.Linear(1, 1)})
    with caplog.at_level(logging.WARNING):
        torch_parameter_transfer(module, tmp_path / "x.ckpt")
    assert flattened(module["a"].state_dict()) == flattened(saved["a"].state_dict())
    assert "has the parameter 'c.weight'" in caplog.text
    assert "holds the parameter 'b.weight'" in caplog.text


class Loadable(pickle.Unpickler):
    """Something that tensors and plain values are not."""


def test_what_needs_pickling_is_not_loaded_and_says_so(tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"weight": torch.zeros(1), "class": Loadable}, path)
    with pytest.raises(ValueError, match=r"model\.ckpt .*pickled.*custom_load_hook.*weights_only"):
        load_plain(path)


def test_a_custom_hook_can_load_what_needs_pickling(tmp_path):
    loaded = []

    def load(obj, path, end_of_epoch):
        loaded.append(torch.load(path, weights_only=False))

    def save(obj, path):
        torch.save(obj, path)

    checkpointer = Checkpointer(tmp_path, {"x": Loadable}, custom_save_hooks={"x": save})
    checkpointer.save_checkpoint()
    checkpointer.custom_load_hooks["x"] = load
    checkpointer.recover_if_possible()
    assert loaded == [Loadable]


@pytest.mark.parametrize("content", [b"", b"no torch file", b"PK\x03\x04 cut"])
def test_a_file_that_torch_did_not_write(tmp_path, content):
    module = torch.nn.Linear(1, 1)
    checkpointer = Checkpointer(tmp_path, {"model": module})
    checkpoint = checkpointer.save_checkpoint()
    (checkpoint.path / "checksums.json").unlink()
    checkpoint.paramfiles["model"].write_bytes(content)
    with pytest.raises(CheckpointError, match=r"'model' could not be loaded from .*model\.ckpt"):
        checkpointer.recover_if_possible()


def test_files_of_the_time_before_torch_wrote_archives_are_read(tmp_path):
    module, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    torch.save(module.state_dict(), tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.load_state_dict(torch_patched_state_dict_load(tmp_path / "old.ckpt"))
    assert flattened(other.state_dict()) == flattened(module.state_dict())
