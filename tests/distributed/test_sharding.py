"""FSDP2 with two processes: DDP's numbers, in parts, for every kind of recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .processes import Outcome, run_ranks

EXACT = (
    "plain",
    "accumulation",
    "automatic",
    "gan",
    "bf16",
    "wrapped_by_class",
    "wrapped_by_size",
    "other_methods",
)
"""Bit for bit as under DDP: with two processes a sum has one order."""

ROUNDED = ("clipping", "cpu_offload")
"""A norm is the root of sums over parts: another order of sums."""

NAMES = (*EXACT, *ROUNDED, "bf16_parameters", "shared_parts", "nonfinite", "scaler", "refusals")


class Sharding:
    """All scenarios, by the same two processes one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outcome: Outcome = run_ranks(
            ["-m", "tests.distributed.sharding", str(folder), *NAMES],
            folder / "outputs",
            seconds=200,
        )

    def found(self, name: str, rank: int = 0) -> dict[str, Any]:
        path = self.folder / f"found-{rank}.json"
        assert path.exists(), self.outcome.report()
        found: dict[str, Any] = json.loads(path.read_text()).get(name, {"error": "not reached"})
        assert "error" not in found, f"{found['error']}\n{self.outcome.report()}"
        return found


@pytest.fixture(scope="module")
def sharding(tmp_path_factory: pytest.TempPathFactory) -> Sharding:
    return Sharding(tmp_path_factory.mktemp("sharding"))


def require_half(sharding: Sharding, name: str) -> None:
    total = sharding.found(name)["total"]
    local = [sharding.found(name, rank)["local"] for rank in range(2)]
    frozen = total - sum(local)
    assert frozen == (42 if name == "plain" else 0), "the entry that nobody trains is whole"
    assert all(0.4 < each / sum(local) < 0.6 for each in local), local


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [*EXACT, *ROUNDED])
def test_as_under_ddp(sharding: Sharding, name: str) -> None:
    tolerance = 1e-6 if name in ROUNDED else 0.0
    for rank in range(2):
        found = sharding.found(name, rank)
        assert found["trained"]
        assert found["steps"] >= 8
        assert found["losses"] <= tolerance
        assert found["evaluated"] <= tolerance
    found = sharding.found(name)
    assert found["weights"] <= tolerance
    assert found["optimizers"] <= tolerance
    require_half(sharding, name)


@pytest.mark.timeout(300)
def test_parameters_of_lower_precision(sharding: Sharding) -> None:
    """Normalization too computes in bf16 then: near, and not the same."""
    found = sharding.found("bf16_parameters")
    assert 0 < found["losses"] < 0.1
    assert 0 < found["weights"] < 0.01


@pytest.mark.timeout(300)
def test_entries_that_share_parts(sharding: Sharding) -> None:
    found = sharding.found("shared_parts")
    assert found["sharded"]
    assert found["weights"] < 1e-6


@pytest.mark.timeout(300)
def test_gradients_that_are_not_finite(sharding: Sharding) -> None:
    for rank in range(2):
        assert sharding.found("nonfinite", rank) == {"left_out": True, "rest": True}


@pytest.mark.timeout(300)
def test_gradient_scaler(sharding: Sharding) -> None:
    for rank in range(2):
        found = sharding.found("scaler", rank)
        assert (found["infinite"], found["finite"]) == (2.0, 2.0), "halved once, on both"
    assert not sharding.found("scaler")["infinite changed"]
    assert sharding.found("scaler")["finite changed"]


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
        ("other", "strategy='xla' cannot be had in Brain.fit() with several processes"),
    ],
)
def test_refused_at_start(sharding: Sharding, name: str, sentence: str) -> None:
    for rank in range(2):
        assert sentence in sharding.found("refusals", rank)[name]
