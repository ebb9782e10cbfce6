"""Processes that several test files look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from .sharded_runs import ShardedRun


@pytest.fixture(scope="session")
def sharded_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="session")
def sharded_by_two(sharded_folder: Path) -> ShardedRun:
    return ShardedRun(sharded_folder, "save", 2)
