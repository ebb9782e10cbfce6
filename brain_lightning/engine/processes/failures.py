"""When one of several processes fails, the others end too and say which one and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities.exceptions import SIGTERMException

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.trainer.placement import runs_among_others
from brain_lightning.ground.errors import OtherProcessError
from brain_lightning.ground.failure_board import (
    FailureBoard,
    Note,
    failure_board,
    is_connection_error,
    lost,
)
from brain_lightning.ground.joint_decision import highest
from brain_lightning.ground.quick_exit import end_quickly


@contextmanager
def failures_told(brain: BrainProtocol) -> Iterator[None]:
    """Tell the other processes what ends this run, and say whose failure it was.

    A process that raises leaves a note and lets its error through. When it ends, the others lose
    the connection to it, or have waited for it too long, and raise an error with what the note
    says; without a note, with what can be found out. No process leaves the run before all are done.

    Raises:
        OtherProcessError: another process ended the run.
        SystemExit: the recipe called ``exit()``; with status 1 in place of 0, which a launcher
            would take for an end without fault.
    """
    if not runs_among_others(brain):
        yield
        return
    board = _board_of_all()
    with board.run() as run, _told(brain, board, run):
        yield
        highest(0)  # what is empty is not exchanged


def _board_of_all() -> FailureBoard:
    try:
        return failure_board()
    except RuntimeError as error:
        if not is_connection_error(error):
            raise
        raise lost(
            "another process was gone before all came together to train or to evaluate, and its "
            "output says why. All processes have to call fit() and evaluate(); what one of them "
            "does alone belongs in run_on_main"
        ) from error


@contextmanager
def _told(brain: BrainProtocol, board: FailureBoard, run: int) -> Iterator[None]:
    try:
        yield
    except OtherProcessError:  # of a run inside of this one
        raise
    except BaseException as error:
        end_quickly()  # the others notice when this process is gone
        if is_connection_error(error):
            raise lost(board.explain(run, _where(brain))) from error
        board.leave(run, Note(f"{type(error).__name__}: {error}".removesuffix(": "), _where(brain)))
        if _is_exit_of_recipe(error):
            raise SystemExit(
                f"Process {board.rank} called exit at {_where(brain)} while others train with it: "
                "its status is 1, not 0."
            ) from error
        raise


def _is_exit_of_recipe(error: BaseException) -> bool:
    """Whether it would end the process with status 0; a SIGTERM, which has none yet, will not."""
    if isinstance(error, SIGTERMException):
        return False
    return isinstance(error, SystemExit) and not error.code


def _where(brain: BrainProtocol) -> str:
    return f"step {brain.step} of its stage (optimizer step {brain.optimizer_step})"
