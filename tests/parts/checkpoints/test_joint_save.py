"""Two processes that save and load together, or not together."""

import pytest

from tests.faults.forked_processes import forked
from tests.parts.checkpoints import processes


@pytest.fixture
def run(tmp_path):
    """Run a scenario in two processes and return what each returned."""

    def run(scenario):
        results = forked.Queue()
        children = [
            forked.Process(target=processes.run, args=(scenario, str(tmp_path), rank, 2, results))
            for rank in range(2)
        ]
        for child in children:
            child.start()
        try:
            found = dict(results.get(timeout=90) for _ in children)
        finally:
            for child in children:
                child.join(5)
                child.kill()
        for result in found.values():
            if isinstance(result, Exception):
                raise result
        return [found[0], found[1]]

    return run


def visible(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_all_save_and_the_main_process_writes(run, tmp_path):
    main, other = run("all_save")
    assert main == ([False, False], 1, 0.0, 1.0)
    assert other == ([True, True], 1, 0.0, 1.0)
    assert len(visible(tmp_path / "save")) == 2


def test_the_main_process_may_save_alone(run):
    main, other = run("only_main_saves")
    assert main == other == (1.0, 1.0, [1, 2, 3, 4])


def test_a_hook_may_gather_from_all_first(run):
    main, other = run("all_gather_first")
    assert main == other
    assert main == ([0.0, 1.0], ["module", "x"])


def test_when_one_fails_all_raise_and_nothing_is_left(run):
    main, other = run("one_fails")
    assert "Another process failed: The recoverable 'x' could not be saved" in main[0]
    assert other[0].startswith("The recoverable 'x' could not be saved")
    assert main[1:] == other[1:] == ([], 1.0)


def test_what_follows_the_hook_that_fails_waits_for_nobody(run):
    for rank, found in enumerate(run("one_fails_before_others")):
        assert len(found) == 2
        for failing, (sentence, added) in enumerate(found):
            told = "The recoverable 'x' could not be saved"
            said = told if rank == failing else f"Another process failed: {told}"
            assert sentence.startswith(said)
            assert added == 1.0


def test_when_the_main_process_cannot_begin_all_raise(run):
    assert run("main_cannot_begin") == [("TypeError", 1.0), ("MainProcessError", 1.0)]


def test_when_nothing_whole_is_found_all_raise(run):
    main, other = run("main_cannot_recover")
    assert main == ("DamagedCheckpointError", True, 1.0)
    assert other == ("MainProcessError", True, 1.0)


def test_machines_without_a_common_file_system_have_a_checkpoint_each(run):
    main, other = run("machines_of_their_own")
    assert main[0] == other[0]
    assert (main[1], other[1]) == (0.0, 1.0)
    assert main[2] == other[2] == ["CKPT.yaml", "checksums.json", "module.ckpt"]
