"""Two processes under SpeechBrain and two under brain_lightning leave the same traces."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from tests.parity.comparison import assert_same
from tests.parity.scenario import Trace

from .processes import Outcome, run_ranks
from .scenarios import SCENARIOS

# A resume restores random states, which SpeechBrain does not save.
OURS_ALONE = {"resume_behind_an_epoch": ("rng.",), "resume_in_an_epoch": ("rng.",)}


class Performance:
    """All scenarios under one library, performed by the same two processes one after the other."""

    def __init__(self, library: str, folder: Path) -> None:
        self.folder = folder
        self.outcome: Outcome = run_ranks(
            ["-m", "tests.distributed.performing", library, str(folder), *SCENARIOS],
            folder / "outputs",
            seconds=200,
        )

    def trace(self, name: str, rank: int) -> Trace:
        path = self.folder / f"{name}-{rank}.pickle"
        assert path.exists(), self.outcome.report()
        trace: Trace = pickle.loads(path.read_bytes())
        return trace


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Performance:
    return Performance("speechbrain", tmp_path_factory.mktemp("theirs"))


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Performance:
    return Performance("brain_lightning", tmp_path_factory.mktemp("ours"))


@pytest.mark.timeout(500)
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("name", SCENARIOS)
def test_same_trace(theirs: Performance, ours: Performance, name: str, rank: int) -> None:
    assert_same(theirs.trace(name, rank), ours.trace(name, rank), ignore=OURS_ALONE.get(name, ()))


@pytest.mark.timeout(500)
def test_processes_differ(ours: Performance) -> None:
    """Else the comparison of the second one would say nothing."""
    assert ours.trace("shuffled", 0) != ours.trace("shuffled", 1)
