"""Prints the table of recipes, natively and under ours: ``python -m tests.recipes [ROW]...``.

A recipe that fails natively is listed as such. The exit status is 1 when any row differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .recipe_comparison import first_difference
from .recipe_process import Outcome, run_both
from .recipe_rows import SPEECH, Row, read_rows
from .written_files import differences

_HEAD = ("recipe", "steps", "losses", "files", "native s", "ours s")
_WIDTHS = (20, 6, 26, 10, 9, 8)


def table_row(row: Row, native: Outcome, ours: Outcome) -> tuple[tuple[str, ...], list[str]]:
    """Return a line of the table, and what is different."""
    expected = row.expected_exits()
    seconds = (f"{native.seconds:.1f}", f"{ours.seconds:.1f}")
    if native.exit_status != expected:
        last = native.output.strip().rpartition("\n")[2]
        return (row.name, "0", "fails natively", "-", *seconds), [f"native: {last}"]
    count = str(len(native.steps))
    if ours.exit_status != expected:
        last = ours.output.strip().rpartition("\n")[2]
        return (row.name, count, "FAILS UNDER OURS", "-", *seconds), [f"ours: {last}"]
    part = first_difference(native.steps, ours.steps)
    files = differences(native.folder, ours.folder)
    verdict = "identical" if part is None else "DIFFERENT"
    equal = "equal" if not files else "DIFFERENT"
    return (row.name, count, verdict, equal, *seconds), [*([part] if part else []), *files]


def run_rows(rows: list[Row], folder: Path) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Run each row both ways."""
    for row in rows:
        if row.needs_speech and not SPEECH.is_dir():
            yield (row.name, "0", "not run: no clips", "-", "-", "-"), []
        else:
            yield table_row(row, *run_both(row, folder / row.name))


def line(cells: tuple[str, ...]) -> str:
    """Return the cells in columns; numbers stand right."""
    return "  ".join(
        cell.rjust(width) if index in (1, 4, 5) else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=True))
    ).rstrip()


def main(arguments: list[str]) -> int:
    """Print the table; returns the exit status."""
    rows = {row.name: row for row in read_rows()}
    parser = argparse.ArgumentParser(prog="python -m tests.recipes", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="ROW", help="of recipes.yaml; all without")
    chosen = parser.parse_args(arguments).names or list(rows)
    unknown = [name for name in chosen if name not in rows]
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; there are {', '.join(rows)}")
    print(line(_HEAD))
    is_different = False
    with tempfile.TemporaryDirectory() as folder:
        for cells, found in run_rows([rows[name] for name in chosen], Path(folder)):
            print(line(cells), *(f"    {each}" for each in found), sep="\n", flush=True)
            is_different |= "DIFFERENT" in cells or "FAILS UNDER OURS" in cells
    return 1 if is_different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
