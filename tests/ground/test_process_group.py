import pytest
import torch
from speechbrain.utils.distributed import ddp_init_group as theirs

from brain_lightning.ground import process_group
from brain_lightning.ground.process_group import ddp_init_group

BOTH = pytest.mark.parametrize("init", [theirs, ddp_init_group], ids=["theirs", "ours"])


@pytest.fixture(autouse=True)
def launched(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def created(monkeypatch):
    calls = []
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda **arguments: calls.append(arguments)
    )
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(str(device)))
    return calls


@BOTH
def test_group_from_the_launcher(init, created):
    init({"distributed_backend": "gloo"})
    [arguments] = created
    assert (arguments["backend"], arguments["rank"]) == ("gloo", 3)
    assert arguments["timeout"].total_seconds() == 7200


@BOTH
@pytest.mark.parametrize("missing", ["RANK", "LOCAL_RANK"])
def test_nothing_without_a_launcher(init, created, missing, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK")
    if missing == "RANK":
        monkeypatch.delenv("RANK")
    init({"distributed_backend": "gloo"})
    assert created == []


@BOTH
def test_nccl_takes_its_gpu(init, created, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    init({"distributed_backend": "nccl"})
    assert created[0] == "cuda:1"
    assert created[1]["backend"] == "nccl"


@BOTH
@pytest.mark.parametrize("backend", ["nccl", "mpi", "tcp"])
def test_what_cannot_work(init, created, backend):
    with pytest.raises(ValueError, match=r"\w+"):
        init({"distributed_backend": backend})
    assert created == []


def test_sentences(monkeypatch):
    with pytest.raises(ValueError, match=r"'tcp'; it can be one of nccl, gloo, mpi.*gloo on the"):
        ddp_init_group({"distributed_backend": "tcp"})
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    with pytest.raises(ValueError, match=r"'nccl', which this installation of torch does not"):
        ddp_init_group({"distributed_backend": "nccl"})
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    with pytest.raises(ValueError, match=r"Process 1 of this machine has no GPU.*there are 0"):
        ddp_init_group({"distributed_backend": "nccl"})


def test_a_group_that_exists_is_used(created, monkeypatch):
    monkeypatch.setattr(process_group, "is_distributed_initialized", lambda: True)
    ddp_init_group({"distributed_backend": "gloo"})
    assert created == []
