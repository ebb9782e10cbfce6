"""A resume goes on exactly in every process: dropout, augmentation, accumulated gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from .processes import run_ranks


@pytest.mark.timeout(150)
@pytest.mark.parametrize("world_size", [2, pytest.param(4, marks=pytest.mark.long)])
def test_interrupted_three_times(tmp_path: Path, world_size: int) -> None:
    """Sums over four processes depend on the order in which DDP lays gradients out."""
    outcome = run_ranks(
        ["-m", "tests.distributed.resuming", str(tmp_path)],
        tmp_path / "outputs",
        world_size=world_size,
        seconds=120,
    )
    outcome.require_success()
    for rank in range(world_size):
        results = torch.load(tmp_path / f"results-{rank}.pt")
        for name in ("plain", "lightning", "unsaved", "workers"):
            whole, cut = results[name]
            assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True)), name
        # What has accumulated is kept as the mean over the processes: another order of sums.
        whole, cut = results["accumulating"]
        for a, b in zip(whole, cut, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert not torch.equal(results["plain"][0][0], results["accumulating"][0][0])
