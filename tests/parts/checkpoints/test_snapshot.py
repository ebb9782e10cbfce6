"""Copies of states that do not change any more."""

from collections import OrderedDict

import pytest
import torch

from brain_lightning.parts.checkpoints.snapshot import SnapshotBuffers
from tests.parts.checkpoints.experiment import Experiment, flattened


def states_of(experiment):
    return {name: obj.state_dict() for name, obj in experiment.recoverables.items()}


def test_a_snapshot_stays_as_it_was():
    experiment = Experiment()
    experiment.step(2)
    before = flattened(states_of(experiment))
    snapshot = SnapshotBuffers().copy(states_of(experiment))
    assert flattened(snapshot) == before
    experiment.step(2)
    assert flattened(snapshot) == before
    assert flattened(states_of(experiment)) != before


def storage_pointers(snapshot):
    found = []

    def visit(value):
        if isinstance(value, dict):
            for item in value.values():
                visit(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                visit(item)
        elif isinstance(value, torch.Tensor):
            found.append(value.data_ptr())

    visit(snapshot)
    return found


def test_the_next_snapshot_uses_the_same_memory():
    experiment = Experiment()
    experiment.step()
    buffers = SnapshotBuffers()
    first = storage_pointers(buffers.copy(states_of(experiment)))
    experiment.step()
    snapshot = buffers.copy(states_of(experiment))
    assert storage_pointers(snapshot) == first
    assert flattened(snapshot) == flattened(states_of(experiment))


def test_shapes_and_types_may_change_and_states_may_go():
    buffers = SnapshotBuffers()
    buffers.copy({"a": {"x": torch.zeros(2), "y": torch.zeros(3)}})
    for tensor in (torch.ones(4), torch.ones(4, dtype=torch.int64), torch.ones(2, 2)):
        copied = buffers.copy({"a": {"x": tensor}})
        assert copied["a"]["x"].equal(tensor)
        assert copied["a"]["x"].dtype == tensor.dtype
    assert len(buffers._buffers) == 1


def test_containers_keep_their_kind_and_what_stands_beside():
    module = torch.nn.BatchNorm1d(2)
    state = {"module": module.state_dict(), "odd": (1, [2, {"deep": torch.ones(1)}], {3}, None)}
    copied = SnapshotBuffers().copy(state)
    assert type(copied["module"]) is OrderedDict
    assert copied["module"]._metadata == module.state_dict()._metadata
    assert copied["odd"][1][1]["deep"] is not state["odd"][1][1]["deep"]
    assert copied["odd"][2] == {3}
    assert copied["odd"][2] is not state["odd"][2]


def test_tied_weights_stay_one_tensor(tmp_path):
    module = torch.nn.ModuleDict({"a": torch.nn.Linear(50, 50), "b": torch.nn.Linear(50, 50)})
    module["b"].weight = module["a"].weight
    copied = SnapshotBuffers().copy({"m": module.state_dict()})
    assert copied["m"]["a.weight"].data_ptr() == copied["m"]["b.weight"].data_ptr()
    for name, state in (("live", module.state_dict()), ("copied", copied["m"])):
        torch.save(state, tmp_path / name)
    sizes = [(tmp_path / name).stat().st_size for name in ("live", "copied")]
    assert sizes[0] == pytest.approx(sizes[1], abs=100)  # the archives name themselves inside


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).reshape(2, 3).t(),
        torch.ones(1).expand(5),
        torch.zeros(0, 3),
        torch.tensor(2.0),
        torch.eye(3).to_sparse(),
        torch.nn.Parameter(torch.ones(2)),
        torch.ones(2, dtype=torch.bfloat16),
        torch.ones(2, dtype=torch.complex64),
        torch.tensor([True, False]),
    ],
    ids=lambda tensor: f"{tensor.dtype} {tuple(tensor.shape)} {tensor.layout}",
)
def test_tensors_of_all_kinds(tensor):
    buffers = SnapshotBuffers()
    for _ in range(2):
        copied = buffers.copy({"x": tensor})["x"]
        assert copied.layout == tensor.layout
        assert copied.dtype == tensor.dtype
        assert not copied.requires_grad
        assert torch.equal(copied.to_dense(), tensor.to_dense())
