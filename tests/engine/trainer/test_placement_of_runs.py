from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from brain_lightning.engine.trainer import placement as module
from brain_lightning.engine.trainer.placement import placement
from brain_lightning.engine.trainer.strategies import InPlaceProcessGroup, InPlaceSingleDevice


def brain(launched=False):
    return SimpleNamespace(device="cpu", distributed_launch=launched, find_unused_parameters=False)


class FourOnTwoMachines:
    def local_world_size(self):
        return 2

    def num_nodes(self):
        return 2


@pytest.fixture
def launched(monkeypatch):
    monkeypatch.setattr(module, "ddp_prevent_block", lambda: False)
    monkeypatch.setattr(
        module,
        "InPlaceProcessGroup",
        lambda device: InPlaceProcessGroup(device, FourOnTwoMachines()),
    )
    return brain(launched=True)


@pytest.mark.parametrize("user", [{}, {"devices": 1}, {"strategy": "ddp"}, {"accelerator": "cpu"}])
def test_one_process(user):
    arguments = placement(brain(), user)
    assert arguments.pop("strategy").__class__ is InPlaceSingleDevice
    assert arguments == {"accelerator": "cpu", "devices": 1}


def test_one_process_with_a_strategy_of_the_users():
    strategy = SingleDeviceStrategy(torch.device("cpu"))
    assert placement(brain(), {"strategy": strategy})["strategy"] is strategy


@pytest.mark.parametrize("user", [{"devices": 2}, {"num_nodes": 2}, {"devices": "0,1"}])
def test_several_processes_without_a_launcher(user):
    with pytest.raises(ValueError, match="several processes, but this is one alone"):
        placement(brain(), user)


@pytest.mark.parametrize(
    "user",
    [{}, {"devices": 2}, {"devices": 2, "num_nodes": 2}, {"strategy": "auto"}, {"strategy": "ddp"}],
)
def test_among_others(launched, user):
    arguments = placement(launched, user)
    assert isinstance(arguments["strategy"], InPlaceProcessGroup)
    assert arguments["num_nodes"] == 2
    assert arguments["strategy"].parallel_devices == [torch.device("cpu")] * 2
    assert not launched.find_unused_parameters


def test_unused_parameters(launched):
    placement(launched, {"strategy": "ddp_find_unused_parameters_true"})
    assert launched.find_unused_parameters


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({"devices": 4}, "devices=4, but the launcher started 2 processes on each of 2 machines"),
        ({"num_nodes": 1}, "num_nodes=1, but the launcher started"),
        ({"strategy": "fsdp"}, "strategy='fsdp' cannot be had"),
    ],
)
def test_other_places_than_the_launchers(launched, user, message):
    with pytest.raises(ValueError, match=message):
        placement(launched, user)


def test_what_one_process_runs_alone(launched, monkeypatch):
    monkeypatch.setattr(module, "ddp_prevent_block", lambda: True)
    assert isinstance(placement(launched, {"devices": 2})["strategy"], InPlaceSingleDevice)
