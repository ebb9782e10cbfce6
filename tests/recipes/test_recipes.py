"""Every recipe of recipes.yaml, natively and under `brain-lightning run`, compared to the bit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .recipe_comparison import first_difference
from .recipe_process import Outcome, run_both
from .recipe_rows import Row, read_rows
from .written_files import differences


def _parameters() -> list[object]:
    return [
        pytest.param(row, id=row.name, marks=[pytest.mark.long] if row.long else [])
        for row in read_rows()
    ]


@pytest.mark.parametrize("row", _parameters())
def test_recipe_gives_the_same_under_ours(
    row: Row, tmp_path: Path, record_property: object
) -> None:
    row.require_speech()

    native, ours = run_both(row, tmp_path)

    expected = row.expected_exits()
    assert native.exit_status == expected, f"native:\n{native.output[-4000:]}"
    assert ours.exit_status == expected, f"ours:\n{ours.output[-4000:]}"
    difference = first_difference(native.steps, ours.steps)
    assert difference is None, difference
    assert len(native.steps) >= row.steps
    assert differences(native.folder, ours.folder) == []
    for outcome in (native, ours):
        require_expected(row, outcome)
    print(
        f"\n{row.name}: {len(native.steps)} lines identical, files equal, "
        f"native {native.seconds:.1f} s, ours {ours.seconds:.1f} s"
    )


def require_expected(row: Row, outcome: Outcome) -> None:
    """Check that the run wrote the files and log lines that its row names."""
    for pattern in row.files:
        assert list(outcome.folder.glob(pattern)), f"{outcome.folder.name} wrote no {pattern}"
    if row.log:
        (log,) = outcome.folder.rglob("train_log.txt")
        lines = log.read_text(encoding="utf-8").splitlines()
        for pattern in row.log:
            assert any(re.search(pattern, line) for line in lines), f"no line {pattern} in {lines}"
