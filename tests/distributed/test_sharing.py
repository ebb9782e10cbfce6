"""With ``shard_evaluation`` every process sees the figures of one process alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .processes import Outcome, Processes, clean_environment, run_ranks

COMMAND = ["-m", "tests.distributed.sharing"]
SHORT = [
    "lists",
    "one_batch",
    "three_batches",
    "no_batch",
    "batch_sampler",
    "shuffled",
    "debug",
    "nested",
    "speechbrains_statistics",
    "torchmetrics_objects",
    "registered",
    "padded",
    "not_registered",
    "changed_late",
    "stream",
    "other_data_on_each",
    "buffers",
]
LONG = ["workers", "items_without_batches", "own_validation", "sampler_of_batches"]
NOT_COMPARED = {"changed_late", "other_data_on_each"}
WHOLE = {"one_batch", "no_batch", "not_registered", "stream"}


class Results:
    """What one or several processes left."""

    def __init__(self, folder: Path, outcome: Outcome) -> None:
        self.folder = folder
        self.outcome = outcome

    def of(self, name: str, rank: int = 0) -> dict[str, Any]:
        path = self.folder / f"{name}-{rank}.json"
        assert path.exists(), self.outcome.report()
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def alone(folder: Path, names: list[str]) -> Results:
    command = [*COMMAND, str(folder), *names]
    return Results(folder, Processes(command, [clean_environment()], folder / "outputs").wait(120))


def together(folder: Path, names: list[str], world_size: int) -> Results:
    outcome = run_ranks(
        [*COMMAND, str(folder), *names],
        folder / "outputs",
        world_size=world_size,
        seconds=200,
        after_the_first=20,
    )
    return Results(folder, outcome)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return alone(tmp_path_factory.mktemp("one"), SHORT)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return together(tmp_path_factory.mktemp("two"), SHORT, 2)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("name", [name for name in SHORT if name not in NOT_COMPARED])
def test_two_processes_see_what_one_sees(one: Results, two: Results, name: str, rank: int) -> None:
    alone, together = one.of(name), two.of(name, rank)
    assert alone["error"] is together["error"] is None
    assert together["seen"] == alone["seen"]
    assert alone["seen"]


@pytest.mark.timeout(400)
def test_each_process_evaluates_a_share(one: Results, two: Results) -> None:
    for name in set(SHORT) - NOT_COMPARED - WHOLE - {"three_batches"}:
        counts = [two.of(name, rank)["evaluated"] for rank in (0, 1)]
        for stage, total in one.of(name)["evaluated"].items():
            if stage != "TRAIN":
                assert max(each[stage] for each in counts) < total, (name, stage)
                assert sum(each[stage] for each in counts) >= total
    # Twelve batches: both processes see the first two, of the others each gets five.
    assert [two.of("lists", rank)["evaluated"]["TEST"] for rank in (0, 1)] == [7, 7]
    # Behind the first stage of its kind the first only, and then six and five.
    assert [two.of("lists", rank)["evaluated"]["VALID"] for rank in (0, 1)] == [14, 13]


@pytest.mark.timeout(400)
def test_report_files_are_whole_and_in_order(one: Results, two: Results) -> None:
    for stage in ("VALID", "TEST"):
        texts = [
            (results.folder / "speechbrains_statistics" / f"{stage}.txt").read_text()
            for results in (one, two)
        ]
        assert texts[0] == texts[1]
        assert texts[0].count("item") >= 23
    counts = [len(list(r.folder.glob("speechbrains_statistics/save/*"))) for r in (one, two)]
    assert counts[0] == counts[1] > 0


@pytest.mark.timeout(400)
def test_what_cannot_be_gathered_is_named(two: Results) -> None:
    warnings = " ".join(two.of("not_registered")["warnings"])
    assert "every process runs all of VALID" in warnings
    assert "self.count (set to another value)" in warnings
    assert "register_gatherable" in warnings
    # Every process had all batches, and still each batch counted once.
    assert two.of("not_registered", 1)["evaluated"]["TEST"] == 6


@pytest.mark.timeout(400)
def test_a_later_change_is_an_error_and_not_a_wrong_figure(one: Results, two: Results) -> None:
    assert one.of("changed_late")["error"] is None
    for rank in (0, 1):
        assert "self.count" in two.of("changed_late", rank)["error"]
        assert not two.of("changed_late", rank)["seen"]


@pytest.mark.timeout(400)
def test_loaders_that_cannot_be_shared(two: Results) -> None:
    assert "IterableDataset" in " ".join(two.of("stream")["warnings"])
    assert "different data" in " ".join(two.of("other_data_on_each")["warnings"])
    losses = [two.of("other_data_on_each", rank)["seen"][0]["step"] for rank in (0, 1)]
    assert losses == [2, 3]


@pytest.mark.long
@pytest.mark.timeout(400)
def test_further_loaders(tmp_path: Path) -> None:
    one, two = alone(tmp_path / "one", LONG), together(tmp_path / "two", LONG, 2)
    for name in LONG:
        for rank in (0, 1):
            assert two.of(name, rank)["seen"] == one.of(name)["seen"], name


@pytest.mark.long
@pytest.mark.timeout(400)
def test_three_processes(tmp_path: Path) -> None:
    """Gradients of three have other roundings than one's, so the figures are nearly the same."""
    names = [name for name in (*SHORT, *LONG) if name not in NOT_COMPARED]
    one, three = alone(tmp_path / "one", names), together(tmp_path / "three", names, 3)
    for name in names:
        for rank in range(3):
            assert_close(three.of(name, rank)["seen"], one.of(name)["seen"], name)


def assert_close(ours: Any, theirs: Any, where: str) -> None:
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_close(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_close(mine, other, f"{where}[{index}]")
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6), where
    else:
        assert ours == theirs, where
