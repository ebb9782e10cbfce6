"""Laying out DDP's gradients anew disturbs nothing, whatever the modules are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .processes import run_ranks


def test_odd_modules(tmp_path: Path) -> None:
    """Hooks hear nothing of it, gradients that wait stay, entries that are new are listened to."""
    outcome = run_ranks(["-m", "tests.distributed.laid_out", str(tmp_path)], tmp_path / "outputs")
    outcome.require_success()
    for rank in range(2):
        found = json.loads((tmp_path / f"found-{rank}.json").read_text())
        assert len(found["plain"]) == 4
        assert found["hooked"] == found["scripted"] == found["plain"]
        assert found["complex"] == pytest.approx([4 * 4 * 2**0.5])
        assert found["waiting"] is True
        orders = found["in_part"]
        assert orders["used"] == ["0.weight", "0.bias", "1.bias", "1.weight"]
        assert sorted(orders["unused"]) == sorted(orders["other"]) == sorted(orders["used"])
        assert orders["unused"][0].startswith("1.")  # the last layer's come first
