"""Which of two checkpoints a fit goes on from, when there are two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from brain_lightning.ground.loggers import get_logger

logger = get_logger(__name__)


@contextmanager
def no_recovery(checkpointer: Any) -> Iterator[None]:
    """Let a recipe's ``recover_if_possible`` find nothing: ``ckpt_path`` says where to go on.

    A loader that has recovered a position could not be told that another one holds.
    """
    if checkpointer is None or not hasattr(checkpointer, "recover_if_possible"):
        yield
        return

    def recover_if_possible(*arguments: Any, **options: Any) -> None:
        del arguments, options
        logger.info("The Checkpointer's checkpoints are left alone: ckpt_path was given.")

    own = vars(checkpointer)
    before = own.get("recover_if_possible")
    checkpointer.recover_if_possible = recover_if_possible
    try:
        yield
    finally:
        del checkpointer.recover_if_possible
        if before is not None:
            checkpointer.recover_if_possible = before
