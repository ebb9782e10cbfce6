"""FSDP2 with two processes: DDP's numbers, in parts, for every kind of recipe."""

from __future__ import annotations

import pytest

from tests.parity.small_recipes import OUTPUTS

from .sharded_runs import ShardedRun

EXACT = (
    "plain",
    "accumulation",
    "automatic",
    "gan",
    "bf16",
    "transformer",
    "searching",
    "whole_module",
    "wrapped_by_class",
    "wrapped_by_size",
    "other_methods",
)
"""Bit for bit as under DDP: with two processes a sum has one order."""

ROUNDED = ("clipping", "cpu_offload")
"""A norm is the root of sums over parts: another order of sums."""


def require_half(sharded_by_two: ShardedRun, name: str) -> None:
    total = sharded_by_two.scenario(name)["total"]
    local = [sharded_by_two.scenario(name, rank)["local"] for rank in range(2)]
    frozen = total - sum(local)
    assert frozen == (42 if name == "plain" else 0), "the entry that nobody trains is whole"
    assert all(0.4 < each / sum(local) < 0.6 for each in local), local


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [*EXACT, *ROUNDED])
def test_as_under_ddp(sharded_by_two: ShardedRun, name: str) -> None:
    tolerance = 1e-6 if name in ROUNDED else 0.0
    for rank in range(2):
        found = sharded_by_two.scenario(name, rank)
        assert found["trained"]
        assert found["steps"] >= 8
        assert found["losses"] <= tolerance
        assert found["evaluated"] <= tolerance
    found = sharded_by_two.scenario(name)
    assert found["weights"] <= tolerance
    assert found["optimizers"] <= tolerance
    assert found["sharded"] == (name != "whole_module")
    if name != "whole_module":
        require_half(sharded_by_two, name)


@pytest.mark.timeout(300)
def test_parameters_of_lower_precision(sharded_by_two: ShardedRun) -> None:
    """Normalization too computes in bf16 then: near, and not the same."""
    found = sharded_by_two.scenario("bf16_parameters")
    assert 0 < found["losses"] < 0.1
    assert 0 < found["weights"] < 0.01


@pytest.mark.timeout(300)
def test_entries_that_share_parts(sharded_by_two: ShardedRun) -> None:
    found = sharded_by_two.scenario("shared_parts")
    assert found["sharded"]
    assert found["weights"] < 1e-6


@pytest.mark.timeout(300)
def test_gradients_that_are_not_finite(sharded_by_two: ShardedRun) -> None:
    for rank in range(2):
        assert sharded_by_two.scenario("nonfinite", rank) == {"left_out": True, "rest": True}


@pytest.mark.timeout(300)
def test_a_call_by_one_process_alone_waits_for_nobody(sharded_by_two: ShardedRun) -> None:
    for rank in range(2):
        found = sharded_by_two.scenario("called_alone", rank)
        assert "called by one process alone, as in run_on_main" in found["sentence"]
        assert found["shape"] == [2, OUTPUTS]


@pytest.mark.timeout(300)
def test_gradient_scaler(sharded_by_two: ShardedRun) -> None:
    for rank in range(2):
        found = sharded_by_two.scenario("scaler", rank)
        assert (found["infinite"], found["finite"]) == (2.0, 2.0), "halved once, on both"
    assert not sharded_by_two.scenario("scaler")["infinite changed"]
    assert sharded_by_two.scenario("scaler")["finite changed"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("early", "an optimizer is made at sharding.py:"),
        ("early", "(self.optimizer), before the modules are sharded"),
        ("callback", "StochasticWeightAveraging copies the modules"),
        ("checkpointer", "with the checkpointer speechbrain.utils.checkpoints.Checkpointer"),
        ("dtype", "param_dtype is torch.bfloat16, but the run option precision is 'fp32'"),
        ("tied", "it shares the parameter weight with modules['one']"),
        ("scalar", "its parameter gain has no dimension to split"),
        ("class", "wrap names 'Conformer', but no trainable entry of modules"),
        ("jit", "it is TorchScript"),
        ("own", "The recoverable 'own' has a save hook of its own"),
        ("whole", "overrides fit_batch (sharding.py:"),
        ("other", "strategy='xla' cannot be had in Brain.fit(). There are"),
    ],
)
def test_refused_at_start(sharded_by_two: ShardedRun, name: str, sentence: str) -> None:
    for rank in range(2):
        assert sentence in sharded_by_two.scenario("refusals", rank)[name]
