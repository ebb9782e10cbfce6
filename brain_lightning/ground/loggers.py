"""Loggers that speak on the main process only, and the configuration of logging."""

from __future__ import annotations

import logging
import logging.config
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import yaml
from tqdm import tqdm
from typing_extensions import override

from brain_lightning.ground.nested_mappings import merged
from brain_lightning.ground.ranks import if_main_process

# SpeechBrain's variable: a user sets it once for both.
LEVEL_VARIABLE = "SB_LOG_LEVEL"
DEFAULT_LEVEL = "INFO"

# What warning_once has said in this process, by logger.
_given_warnings: set[tuple[object, ...]] = set()

if TYPE_CHECKING:
    _LoggerAdapter = logging.LoggerAdapter[logging.Logger]
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _LoggerAdapter = logging.LoggerAdapter
    _StreamHandler = logging.StreamHandler


class MainProcessLogger(_LoggerAdapter):
    """A logger that writes on the main process only.

    Every logging method takes ``main_process_only=False`` to write on each process.
    """

    @override
    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Write a message, when this process is the one to write it."""
        main_process_only = kwargs.pop("main_process_only", True)
        # The reported line is the caller's, not one of this file.
        kwargs.setdefault("stacklevel", 2)
        if not self.isEnabledFor(level) or (main_process_only and not if_main_process()):
            return
        msg, processed = self.process(msg, kwargs)
        self.logger.log(level, msg, *args, **processed)

    def warning_once(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Write a warning the first time that it is given with these arguments."""
        given = (self.logger.name, msg, args, tuple(sorted(kwargs.items())))
        if given in _given_warnings:
            return
        _given_warnings.add(given)
        kwargs.setdefault("stacklevel", 3)
        self.warning(msg, *args, **kwargs)


def get_logger(name: str) -> MainProcessLogger:
    """Return the logger of that name, at the level that ``SB_LOG_LEVEL`` says (INFO if unset)."""
    logger = logging.getLogger(name)
    logger.setLevel(os.environ.setdefault(LEVEL_VARIABLE, DEFAULT_LEVEL).upper())
    return MainProcessLogger(logger, {})


class TqdmCompatibleStreamHandler(_StreamHandler):
    """Write messages to a stream without tearing a progress bar that stands on it.

    The bar is tqdm's or Rich's.
    """

    @override
    def emit(self, record: logging.LogRecord) -> None:
        """Write one message above the bars."""
        try:
            stream = _above_rich_display(self.stream)
            tqdm.write(self.format(record), file=stream, end=self.terminator)
            self.flush()
        except RecursionError:  # as logging's own handlers do: reporting it would recurse too
            raise
        except Exception:
            self.handleError(record)


def _above_rich_display(stream: TextIO) -> TextIO:
    """Return what writes to ``stream`` above what Rich shows on the terminal, if it shows anything.

    While it does, it has put something in the place of ``sys.stderr`` and ``sys.stdout`` that knows
    what it stands for; a handler has the stream of before.
    """
    for shown in (sys.stderr, sys.stdout):
        if getattr(shown, "rich_proxied_file", None) is stream:
            return shown
    return stream


def setup_logging(
    config_path: str | os.PathLike[str] = "log-config.yaml",
    overrides: Mapping[str, Any] | None = None,
    default_level: str = "DEBUG",
) -> None:
    """Configure logging from a YAML file in the form of ``logging.config.dictConfig``.

    Args:
        config_path: the file; when it is not there, messages of ``default_level`` go to standard
            error.
        overrides: values that replace or add to the file's, in the same nested form.
        default_level: the level for loggers that are got from now on.
    """
    path = Path(config_path)
    if path.exists():
        configuration = read_logging_configuration(path)
        logging.config.dictConfig(merged(configuration, overrides or {}))
    else:
        logging.basicConfig(level=default_level)
    os.environ[LEVEL_VARIABLE] = default_level


def read_logging_configuration(path: Path) -> dict[str, Any]:
    """Read a logging configuration, or say in a ValueError why the file is none."""
    try:
        configuration = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"The logging configuration {path} is not YAML: {error}") from error
    if not isinstance(configuration, dict) or "version" not in configuration:
        raise ValueError(
            f"The logging configuration {path} must be a mapping in the form of "
            "logging.config.dictConfig, with `version: 1` at its top."
        )
    return configuration
