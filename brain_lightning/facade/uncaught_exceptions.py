"""Exceptions that nobody catches, written to the log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import TracebackType
from typing import TypeAlias

from brain_lightning.ground.loggers import get_logger

logger = get_logger(__name__)

Hook: TypeAlias = Callable[[type[BaseException], BaseException, TracebackType | None], object]


class LoggingExceptionHook:
    """A ``sys.excepthook`` that logs, and goes on to a hook that somebody else had set.

    Python's own hook, which prints to standard error, has its turn only when the log does not
    reach the terminal: the traceback is to be seen there, and once.
    """

    def __init__(self, previous: Hook) -> None:
        """Remember the hook to go on to."""
        self._previous = previous

    def __call__(
        self,
        exc_type: type[BaseException],
        exc_value: BaseException,
        exc_traceback: TracebackType | None,
    ) -> None:
        """Log an exception."""
        logger.error("Exception:", exc_info=(exc_type, exc_value, exc_traceback))
        if self._previous is not sys.__excepthook__ or not _log_reaches_terminal():
            self._previous(exc_type, exc_value, exc_traceback)


def log_uncaught_exceptions() -> None:
    """Install the hook; where it is installed already, leave it."""
    if not isinstance(sys.excepthook, LoggingExceptionHook):
        sys.excepthook = LoggingExceptionHook(sys.excepthook)


def _log_reaches_terminal() -> bool:
    return any(
        isinstance(handler, logging.StreamHandler)
        and handler.stream in (sys.stdout, sys.stderr)
        and handler.level <= logging.ERROR
        for handler in logging.getLogger().handlers
    )
