"""Version and changelog agree."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import brain_lightning

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"


def test_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (\S+)", CHANGELOG.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == brain_lightning.__version__


def test_installed_package_has_this_version() -> None:
    assert version("brain-lightning") == brain_lightning.__version__
