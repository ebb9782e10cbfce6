"""A resume goes on exactly in every process: dropout, augmentation, accumulated gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from .processes import run_ranks


@pytest.mark.timeout(150)
def test_interrupted_three_times(tmp_path: Path) -> None:
    outcome = run_ranks(
        ["-m", "tests.distributed.resuming", str(tmp_path)], tmp_path / "outputs", seconds=120
    )
    outcome.require_success()
    for rank in range(2):
        results = torch.load(tmp_path / f"results-{rank}.pt")
        for name in ("plain", "lightning"):
            whole, cut = results[name]
            assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True)), name
        # What has accumulated is kept as the mean over the processes: another order of sums.
        whole, cut = results["accumulating"]
        for a, b in zip(whole, cut, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert not torch.equal(results["plain"][0][0], results["accumulating"][0][0])
