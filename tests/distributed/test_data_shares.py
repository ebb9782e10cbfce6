"""Processes train on disjoint data, from every kind of loader that can be shared out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .processes import run_ranks

SIZES = {
    "shuffled": 12,
    "sampler": 12,
    "batch sampler": 12,
    "dynamic batches": 40,
    "stream": 12,
    "stream with workers": 24,
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("shares")
    command = ["-m", "tests.distributed.data_shares", str(folder)]
    run_ranks(command, folder / "outputs", seconds=120, after_the_first=20).require_success()
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", SIZES)
def test_shares_are_disjoint_and_together_the_whole(found: list[dict[str, Any]], name: str) -> None:
    for epoch in range(2):
        first, second = (each[name]["epochs"][epoch] for each in found)
        # Dynamic batches may be odd in number: one is then given twice, as in SpeechBrain.
        if name != "dynamic batches":
            assert sorted(first + second) == list(range(SIZES[name]))
        assert set(first) | set(second) == set(range(SIZES[name]))
        assert len(set(first) & set(second)) <= (8 if name == "dynamic batches" else 0)
        assert first
        assert second


@pytest.mark.timeout(150)
def test_a_stream_that_cannot_be_divided_is_a_warning(found: list[dict[str, Any]]) -> None:
    assert [each["whole stream"]["epochs"] for each in found] == [[list(range(6))] * 2] * 2
    assert "IterableDataset" in " ".join(found[0]["whole stream"]["warnings"])
    assert not any("IterableDataset" in text for text in found[0]["stream"]["warnings"])
