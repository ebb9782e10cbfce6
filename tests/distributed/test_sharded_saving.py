"""What FSDP2 saves: whole files, from every way to call a save; for any number of processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer as TheirCheckpointer
from speechbrain.utils.epoch_loop import EpochCounter as TheirEpochCounter
from torch.nn.functional import mse_loss

import brain_lightning as sb
from tests.parity.small_recipes import INPUTS, Points

from .scenarios import still_network
from .sharded_runs import ShardedRun
from .sharding import adam, model


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "how",
    ["by_all", "by_main", "by_main_before_others_wait", "by_run_on_main", "by_others_in_vain"],
)
def test_whole_files_whoever_calls_the_save(sharded_by_two: ShardedRun, how: str) -> None:
    found = sharded_by_two.found("ways")[how]
    assert found["kinds"] == ["Tensor"]
    assert found["keys"]
    assert found["saved"] == 0, "what is in the files is what was trained"
    assert found["same"] == 0, "and the same as from the other ways"
    assert found["number"] == 2


@pytest.mark.timeout(300)
def test_averaged_checkpoints_go_into_sharded_modules(
    sharded_by_two: ShardedRun, sharded_folder: Path
) -> None:
    """The recipe evaluates with the average of two; one process does the same."""
    net = model(still_network()).eval()
    checkpointer = sb.Checkpointer(sharded_folder / "ways" / "by_all", {"model": net})
    checkpoints = checkpointer.find_checkpoints(max_num_checkpoints=2)
    net.load_state_dict(sb.average_checkpoints(checkpoints, "model"))
    points = Points(4, 2)
    with torch.no_grad():
        losses = [float(mse_loss(net(x[None]), y[None])) for x, y in points]
    assert sharded_by_two.found("ways")["by_all"]["loss"] == pytest.approx(
        sum(losses) / len(losses), rel=1e-6
    )


@pytest.mark.timeout(300)
def test_read_by_speechbrain(sharded_by_two: ShardedRun, sharded_folder: Path) -> None:
    assert sharded_by_two.found("ways")
    net = model(still_network())
    optimizer = adam(net.parameters())
    counter = TheirEpochCounter(9)
    recoverables = {"model": net, "optimizer": optimizer, "counter": counter}
    theirs = TheirCheckpointer(sharded_folder / "ways" / "by_all", recoverables)
    checkpoint = theirs.recover_if_possible()
    assert checkpoint is not None
    assert counter.current == 2
    saved = torch.load(checkpoint.paramfiles["optimizer"])
    state = optimizer.state_dict()["state"]
    assert len(state) == len(list(net.parameters()))
    for index, values in saved["state"].items():
        for name, value in values.items():
            assert torch.equal(state[index][name], value), (index, name)
    before = [each.detach().clone() for each in net.parameters()]
    net(torch.ones(2, INPUTS)).sum().backward()
    optimizer.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.timeout(300)
def test_interval_checkpoints(sharded_by_two: ShardedRun) -> None:
    assert sharded_by_two.found("interval") == {"True": True, "False": True, "same": 0.0}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["plain", "accumulating", "lightning", "unsaved"])
def test_exact_resume(sharded_by_two: ShardedRun, name: str) -> None:
    # What has accumulated is saved as the mean over the processes: another order of sums.
    tolerance = 1e-6 if name == "accumulating" else 0.0
    for rank in range(2):
        found = sharded_by_two.found("exact_resume", rank)[name]
        assert found["resumed"]
        assert found["losses"] <= tolerance
    assert sharded_by_two.found("exact_resume")[name]["state"] <= tolerance


@pytest.mark.timeout(300)
def test_saving_alone_is_an_error_and_no_hang(sharded_by_two: ShardedRun) -> None:
    for rank in range(2):
        assert (
            "by one process alone" in sharded_by_two.found("alone_elsewhere", rank)["run_on_main"]
        )
    message = sharded_by_two.found("alone_elsewhere")["if_main_process"]
    assert "not all came to the save within 2 s" in message
    assert "Call the save on all processes" in message


@pytest.mark.long
@pytest.mark.timeout(300)
def test_three_go_on_from_two(sharded_by_two: ShardedRun, sharded_folder: Path) -> None:
    """As three under DDP do; sums over three have more than one order."""
    assert sharded_by_two.found("ways")
    resuming = ShardedRun(sharded_folder, "resume", 3)
    local = []
    for rank in range(3):
        found = resuming.found("from_two", rank)
        assert found["sharded"]
        assert found["steps"] == 4
        assert found["losses"] < 1e-6
        local.append(found["local"])
    found = resuming.found("from_two")
    assert found["weights"] < 1e-6
    assert sum(local) == found["total"]
