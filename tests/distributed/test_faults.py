"""One process misbehaves; the others end in time and say which one it was and why."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from brain_lightning.parts.checkpoints.checkpointer import Checkpointer

from .faults import INTERVAL, TESTED
from .processes import Outcome, Processes, clean_environment, run_ranks

LONG = pytest.mark.long
STEP = 5
LENGTH = 20  # of an epoch of tests.distributed.faults


def perform(
    kind: str,
    rank: int,
    folder: Path,
    world_size: int = 2,
    step: int = STEP,
    strategy: str = "ddp",
) -> Outcome:
    return run_ranks(
        ["-m", "tests.distributed.faults", kind, str(rank), str(step), str(folder)],
        folder / "outputs",
        world_size,
        seconds=90,
        # Who is stopped stays; others have a time-out of five seconds, and some more to say why.
        after_the_first=3 if kind == "stop" else 30,
        BRAIN_LIGHTNING_TIMEOUT="5",
        STRATEGY=strategy,
    )


def others(outcome: Outcome, rank: int) -> list[tuple[int | None, str]]:
    pairs = zip(outcome.codes, outcome.outputs, strict=True)
    return [pair for number, pair in enumerate(pairs) if number != rank]


def require_checkpoint(folder: Path) -> None:
    """The interval checkpoint behind the third step is whole."""
    found = Checkpointer(folder / "save").find_checkpoints()
    assert [checkpoint.meta["end-of-epoch"] for checkpoint in found] == [False]


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("kind", "rank", "world_size", "message"),
    [
        ("raise", 1, 3, "process 1 failed at step 5 .*: ValueError: the data of this process are"),
        pytest.param("raise", 0, 2, "process 0 failed at step 5 .*: ValueError", marks=LONG),
        pytest.param("exit", 0, 2, "process 0 failed at step 5 .*: SystemExit", marks=LONG),
        pytest.param("interrupt", 1, 2, "process 1 failed .*: KeyboardInterrupt", marks=LONG),
        ("kill", 0, 2, "process 0 is gone, at step 5"),
        pytest.param("kill", 1, 2, "process 1 is gone, at step 5", marks=LONG),
        pytest.param("os_exit", 1, 2, "process 1 is gone, at step 5", marks=LONG),
        ("stop", 1, 2, "process 1 did not come to step 5"),
        pytest.param("stop", 0, 2, "process 0 did not come to step 5", marks=LONG),
        pytest.param("loader", 1, 2, "process 1 did not come to step 5", marks=LONG),
    ],
)
def test_the_others_end_and_say_why(
    tmp_path: Path, kind: str, rank: int, world_size: int, message: str
) -> None:
    outcome = perform(kind, rank, tmp_path, world_size)
    for code, output in others(outcome, rank):
        assert code == 1, outcome.report()
        said = re.findall("OtherProcessError: (.*)|^(Process . is ended: .*)", output, re.MULTILINE)
        assert said, outcome.report()
        assert re.search(message, "".join(said[-1])), outcome.report()
    if kind == "loader":
        assert "process 0 has given up waiting for it" in outcome.outputs[rank]
    elif kind != "stop":
        # Nothing can be done about os._exit(0) from inside the process.
        assert outcome.codes[rank] == {"kill": -9, "interrupt": -2, "os_exit": 0}.get(kind, 1)
    require_checkpoint(tmp_path)


@LONG
@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", [1, 3, 4, 13, 20])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("kind", ["raise", "kill", "exit", "os_exit", "interrupt", "stop"])
def test_at_every_kind_of_step_and_what_is_left_resumes(
    tmp_path: Path, kind: str, rank: int, step: int
) -> None:
    """The first step, one that saves, the one behind it, one in between, and the last."""
    outcome = perform(kind, rank, tmp_path, step=step)
    [(code, output)] = others(outcome, rank)
    assert code == 1, outcome.report()
    verb = "did not come to" if kind == "stop" else "(failed|is gone,) at"
    assert re.search(f"process {rank} {verb} step {step} ", output), outcome.report()
    again = perform("none", rank, tmp_path)
    again.require_success()
    # The stream begins its epoch again, as it does not say where it was; nothing else does.
    steps_saved = (step - 1) // INTERVAL * INTERVAL
    assert f"DONE 0 {steps_saved + 2 * LENGTH} " in again.outputs[0], again.report()


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("kill", "process 1 is gone, at step 5"),
        pytest.param("raise", "process 1 failed at step 5 .*: ValueError", marks=LONG),
        pytest.param("stop", "process 1 did not come to step 5", marks=LONG),
    ],
)
def test_while_modules_are_sharded(tmp_path: Path, kind: str, message: str) -> None:
    outcome = perform(kind, 1, tmp_path, strategy="fsdp2")
    assert outcome.codes[0] == 1, outcome.report()
    assert re.search(message, outcome.outputs[0]), outcome.report()
    require_checkpoint(tmp_path)


@LONG
@pytest.mark.timeout(150)
@pytest.mark.parametrize("rank", [0, 1])
def test_losses_that_are_not_finite_in_one_process(tmp_path: Path, rank: int) -> None:
    outcome = perform("nonfinite", rank, tmp_path)
    for code, output in zip(outcome.codes, outcome.outputs, strict=True):
        assert code == 1, outcome.report()
        assert "ValueError: The loss of 4 batches in this epoch is not finite" in output


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("rank", "world_size"), [(1, 2), pytest.param(0, 3, marks=LONG)])
def test_fewer_batches_in_one_process(tmp_path: Path, rank: int, world_size: int) -> None:
    """Every epoch has as many steps as the process with the fewest batches."""
    outcome = perform("fewer", rank, tmp_path, world_size)
    outcome.require_success()
    results = [output[output.rindex("DONE ") :].split(maxsplit=2) for output in outcome.outputs]
    assert [result[1] for result in results] == [str(number) for number in range(world_size)]
    assert {result[2] for result in results} == {results[0][2]}
    assert results[0][2].startswith(f"{2 * STEP} [")
    warned = ["the batches that this process still has are left out" in output
              for output in outcome.outputs]  # fmt: skip
    assert warned == [number != rank for number in range(world_size)]


@pytest.mark.timeout(150)
def test_terminated_together(tmp_path: Path) -> None:
    """Lightning ends every process behind the step in which one received a SIGTERM."""
    outcome = perform("terminate", 1, tmp_path)
    assert outcome.codes == [-signal.SIGTERM, -signal.SIGTERM], outcome.report()
    assert not any("DONE" in output for output in outcome.outputs)
    steps = {(tmp_path / f"step-{rank}").read_text() for rank in range(2)}
    assert steps == {str(STEP)}


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("terminate_in_validation", -signal.SIGTERM, "process 1 failed at step .*: SIGTERMExc"),
        ("before", 1, "another process was gone before all came together"),
    ],
)
def test_outside_of_training_the_others_say_why(
    tmp_path: Path, kind: str, code: int, message: str
) -> None:
    outcome = perform(kind, 1, tmp_path)
    assert outcome.codes == [1, code], outcome.report()
    assert re.search(f"Process 0 cannot go on: {message}", outcome.outputs[0]), outcome.report()


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("fault", "step", "message"),
    [
        ("raise", 2, "process 1 failed at step 2 .*: ValueError: the data of this process are"),
        pytest.param("kill", 2, "process 1 is gone, at step", marks=LONG),
        pytest.param("raise", TESTED, f"process 1 failed at step {TESTED} ", marks=LONG),
    ],
)
def test_in_a_test_the_others_end_too(tmp_path: Path, fault: str, step: int, message: str) -> None:
    """Where processes exchange nothing until its end."""
    outcome = perform(f"{fault}_in_test {step}", 1, tmp_path)
    assert outcome.codes[0] == 1, outcome.report()
    assert re.search(f"Process 0 cannot go on: {message}", outcome.outputs[0]), outcome.report()
    is_whole = (tmp_path / "tested-0").read_text() == str(TESTED)
    assert is_whole == (step == TESTED)


@LONG
@pytest.mark.timeout(150)
def test_a_slow_process_is_no_fault(tmp_path: Path) -> None:
    outcome = perform("slow", 1, tmp_path)
    outcome.require_success()


@LONG
@pytest.mark.timeout(200)
def test_torchrun_ends_what_is_stopped(tmp_path: Path) -> None:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    fault = ["-m", "tests.distributed.faults", "stop", "1", str(STEP), str(tmp_path)]
    environment = clean_environment(BRAIN_LIGHTNING_TIMEOUT="5")
    outcome = Processes([*command, *fault], [environment], tmp_path / "outputs").wait(120)
    assert outcome.codes == [1], outcome.report()
    assert "process 1 did not come to step 5" in outcome.outputs[0]
