import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from speechbrain.utils import distributed as theirs

from brain_lightning.ground import ranks as ours

BOTH = pytest.mark.parametrize("ranks", [theirs, ours], ids=["theirs", "ours"])
OURS_ONLY = ("failed", "unsent", "after")
VARIABLES = ["RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"]


@pytest.fixture(autouse=True)
def nothing_launched(monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@BOTH
def test_alone(ranks):
    assert ranks.get_rank() is None
    assert ranks.get_local_rank() is None
    assert ranks.if_main_process()
    assert ranks.is_local_rank_zero()
    assert not ranks.is_distributed_initialized()
    assert ranks.rank_prefixed_message("x") == "x"
    ranks.ddp_barrier()
    assert ranks.ddp_broadcast([1]) == [1]
    tensor = torch.tensor([2.0])
    assert ranks.ddp_all_reduce(tensor, torch.distributed.ReduceOp.SUM) is tensor
    assert tensor.item() == 2.0


@BOTH
@pytest.mark.parametrize("first", range(4))
def test_rank_from_the_environment_in_this_order(ranks, first, monkeypatch):
    for number, variable in enumerate(VARIABLES[first:], first):
        monkeypatch.setenv(variable, str(number))
    assert ranks.get_rank() == first
    assert ranks.get_local_rank() == (1 if first <= 1 else None)
    assert ranks.rank_prefixed_message("x") == f"[rank: {first}] x"
    # without a process group every process is its own main process
    assert ranks.if_main_process()


def test_rank_that_is_no_number(monkeypatch):
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(ValueError, match="environment variable RANK is 'first'"):
        ours.get_rank()


@BOTH
def test_device(ranks, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert ranks.infer_device() == "cpu"
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert ranks.infer_device() == "cuda:1"
    monkeypatch.delenv("LOCAL_RANK")
    assert ranks.infer_device() == "cuda"


@pytest.mark.parametrize(("available", "device"), [(True, "cuda"), (False, "cpu")])
def test_device_with_an_older_torch(monkeypatch, available, device):
    monkeypatch.delattr(torch, "accelerator")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert ours.infer_device() == device


@BOTH
def test_running_on_main_alone(ranks):
    calls = []

    def note(*args, **kwargs):
        calls.append((args, kwargs))
        return "result"

    assert ranks.run_on_main(note, [1], {"a": 2}, post_func=calls.append) == "result"
    assert calls == [((1,), {"a": 2})]
    ranks.run_on_main(note, post_func=note, post_args=[3], run_post_on_main=True)
    assert calls[1:] == [((), {}), ((3,), {})]
    assert ranks.run_once_per_node(note, [4], post_func=note) == "result"
    assert ranks.run_once_per_node(note, post_func=lambda: "post", run_post_on_all=True) == "post"


@BOTH
def test_decorators_keep_the_functions_name(ranks):
    def named():
        """Say."""

    for decorated in (ranks.main_process_only(named), ranks.once_per_node(named)):
        assert (decorated.__name__, decorated.__doc__) == ("named", "Say.")


def test_sections_are_counted_also_when_they_fail(monkeypatch):
    monkeypatch.setattr(ours, "is_distributed_initialized", lambda: True)
    assert not ours.ddp_prevent_block()
    with ours.alone():
        with pytest.raises(KeyError), ours.alone():
            raise KeyError
        assert ours.ddp_prevent_block()
    assert not ours.ddp_prevent_block()


def test_import_starts_nothing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("asked for a GPU"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: pytest.fail("asked for GPUs"))
    monkeypatch.setenv("RANK", "not read on import")
    spec = importlib.util.find_spec("brain_lightning.ground.ranks")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two_ranks")
    script = Path(__file__).with_name("two_ranks.py")
    for library in ("theirs", "ours"):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        subprocess.run(
            [*launcher, "--nproc_per_node=2", script, library, folder],
            check=True,
            timeout=120,
            capture_output=True,
        )
    return {
        (library, rank): json.loads((folder / f"{library}-{rank}.json").read_text())
        for library in ("theirs", "ours")
        for rank in (0, 1)
    }


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_do_what_speechbrains_do(two_ranks, rank):
    shared = [event for event in two_ranks["ours", rank] if event[0] not in OURS_ONLY]
    assert shared == two_ranks["theirs", rank]
    assert ["main", rank == 0, rank == 0, rank] in shared
    assert ["sum", [3.0, 20.0], [3.0, 20.0]] in shared
    assert shared.count(["result", {"name": "a", "inner": "inner"}]) == 1


def test_a_result_that_cannot_be_sent_is_a_failure_on_every_process(two_ranks):
    [main] = [event for event in two_ranks["ours", 0] if event[0] == "unsent"]
    [other] = [event for event in two_ranks["ours", 1] if event[0] == "unsent"]
    assert main[1] == "TypeError"
    assert other[1] == "MainProcessError"
    assert other[2].endswith(f"its result cannot be sent to the others: {main[2]}")


def test_a_failure_on_the_main_process_is_one_on_every_process(two_ranks):
    main, other = two_ranks["ours", 0], two_ranks["ours", 1]
    assert ["failed", "KeyError", "'broken'"] in main
    [failed] = [event for event in other if event[0] == "failed"]
    assert failed[1] == "MainProcessError"
    assert "fail failed on the main process: KeyError: 'broken'" in failed[2]
    assert ["after", "from 0"] in main
    assert ["after", "from 0"] in other
