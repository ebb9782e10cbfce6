"""The page about Lightning says what the contract tests have found."""

from .documentation import PAGE, with_tables


def test_tables_are_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page), "run python -m tests.contract.documentation"
