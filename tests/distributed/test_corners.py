"""Where processes differ: one stops, saves or fails alone; machines have disks of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .processes import run_ranks

pytestmark = pytest.mark.timeout(150)
ONE_MACHINE = (
    "early_stopping",
    "stopper",
    "saved_by_the_main_process",
    "failing_on_the_main_process",
    "evaluating_inside",
    "random_numbers_behind_an_evaluation",
    "both_libraries",
    "saved_in_a_test_before_the_next",
    "around_the_wrapper",
)
TWO_MACHINES = ("disk_of_each_once_per_node", "only_the_main_machine_has_one")
Found = Callable[[str], list[Any]]


def performed(folder: Path, names: tuple[str, ...], nodes: int) -> Found:
    outcome = run_ranks(
        ["-m", "tests.distributed.corners", str(folder), *names],
        folder / "outputs",
        nodes=nodes,
        seconds=120,
        after_the_first=20,
        BRAIN_LIGHTNING_TIMEOUT="20",
    )

    def found(name: str) -> list[Any]:
        files = [folder / f"{name}-{rank}.json" for rank in range(2)]
        assert all(file.exists() for file in files), outcome.report()
        return [json.loads(file.read_text()) for file in files]

    return found


@pytest.fixture(scope="module")
def on_one_machine(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return performed(tmp_path_factory.mktemp("one"), ONE_MACHINE, nodes=1)


@pytest.fixture(scope="module")
def on_two_machines(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return performed(tmp_path_factory.mktemp("two"), TWO_MACHINES, nodes=2)


@pytest.mark.parametrize("name", ["early_stopping", "stopper"])
def test_one_process_stops_early(on_one_machine: Found, name: str) -> None:
    """The first epoch is the best, two more bring nothing: all processes stop behind the third."""
    first, second = on_one_machine(name)
    assert first == second
    assert first[0] == 3


def test_the_main_process_saves_alone(on_one_machine: Found) -> None:
    first, second = on_one_machine("saved_by_the_main_process")
    assert first == second
    epochs, epochs_behind_the_resume, kept, _ = first
    assert (epochs, epochs_behind_the_resume, kept) == (2, 1, [3])


def test_a_failure_of_the_main_process_alone(on_one_machine: Found) -> None:
    first, second = on_one_machine("failing_on_the_main_process")
    assert first == ["FileNotFoundError", "the scoring program is not there"]
    assert second[0] == "MainProcessError"
    assert "FileNotFoundError: the scoring program is not there" in second[1]


def test_evaluations_inside_of_a_fit_and_by_one_process(on_one_machine: Found) -> None:
    first, second = on_one_machine("evaluating_inside")
    assert first == second
    epochs, inside, alone, _ = first
    assert epochs == 2
    assert inside == alone


def test_sharing_draws_no_other_random_numbers(on_one_machine: Found) -> None:
    for found in on_one_machine("random_numbers_behind_an_evaluation"):
        assert len(found) == 4
        assert len(set(found.values())) == 1


def test_run_on_main_of_one_library_around_the_other(on_one_machine: Found) -> None:
    assert on_one_machine("both_libraries") == [[0, [0]], [0, []]]


def test_machines_with_a_checkpoint_each_resume(on_two_machines: Found) -> None:
    first, second = on_two_machines("disk_of_each_once_per_node")
    epochs, kept, weights = first
    assert (epochs, kept) == (1, 1)
    assert (second[0], second[2]) == (epochs, weights)
    assert second[1] >= 1


def test_a_machine_without_the_checkpoint_says_so(on_two_machines: Found) -> None:
    first, second = on_two_machines("only_the_main_machine_has_one")
    assert first[0] == "OtherProcessError"
    assert "process 1 failed" in first[1]
    assert second[0] == "CheckpointError"
    assert "which process 1 does not find" in second[1]


def test_a_test_waits_for_what_the_one_before_saved(on_one_machine: Found) -> None:
    """All go on with the main process's choice: one alone would find what is not there yet."""
    first, second = on_one_machine("saved_in_a_test_before_the_next")
    assert first == second
    assert len({str(each) for each in first}) == 3


def test_what_goes_around_the_wrappers_of_ddp(on_one_machine: Found) -> None:
    """Doctor warns of both: an attribute that is not there, and weights that drift apart."""
    first, second = on_one_machine("around_the_wrapper")

    assert first["a part"] == second["a part"]
    assert "has no attribute 'inner'" in first["a part"]
    assert first["as entry"] == second["as entry"]
    assert first["by hparams"] != second["by hparams"]
