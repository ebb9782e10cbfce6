"""Writes the tables of docs/lightning.md: ``python -m tests.contract.documentation``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .lightning_features import CALLBACKS, LOGGERS, PROFILERS, TRAINER_ARGUMENTS, Entry

PAGE = Path(__file__).parents[2] / "docs" / "lightning.md"
BEGIN, END = "<!-- tables: made by tests/contract/documentation.py -->", "<!-- end of tables -->"
TABLES = {
    "Callbacks": CALLBACKS,
    "Loggers": LOGGERS,
    "Profilers": PROFILERS,
    "Trainer arguments": TRAINER_ARGUMENTS,
}
STATUS = {"automatic": "works, with automatic optimization", "own Trainer": "in your own Trainer"}


def table(title: str, entries: Mapping[str, Entry]) -> str:
    """Return one table in Markdown."""
    head = f"### {title}\n\n| name | | how, or why not |\n|---|---|---|\n"
    rows = (
        f"| `{name}` | {STATUS.get(entry.status, entry.status)} | {entry.note} |"
        for name, entry in sorted(entries.items(), key=lambda item: item[0].lower())
    )
    return head + "\n".join(rows) + "\n"


def with_tables(page: str) -> str:
    """Return the page with its tables made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = "\n".join(table(title, entries) for title, entries in TABLES.items())
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
