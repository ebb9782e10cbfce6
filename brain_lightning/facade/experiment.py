"""The folder of an experiment: what is needed to know later what was run."""

from __future__ import annotations

import os
import shutil
from datetime import date
from pathlib import Path
from typing import Any

from brain_lightning.facade.calling_script import calling_script
from brain_lightning.facade.hyperparameter_file import Overrides, resolved_hyperparameters
from brain_lightning.facade.uncaught_exceptions import log_uncaught_exceptions
from brain_lightning.ground.environment import get_environment_description
from brain_lightning.ground.loggers import get_logger, read_logging_configuration, setup_logging
from brain_lightning.ground.ranks import main_process_only

logger = get_logger(__name__)

DEFAULT_LOG_CONFIG = Path(__file__).with_name("log-config.yaml")
# The handler of a logging configuration that writes log.txt.
FILE_HANDLER = "file_handler"

FilePath = str | os.PathLike[str]


@main_process_only
def create_experiment_directory(
    experiment_directory: FilePath,
    hyperparams_to_save: FilePath | None = None,
    overrides: Overrides = None,
    log_config: FilePath | None = DEFAULT_LOG_CONFIG,
    save_env_desc: bool = True,
) -> None:
    """Make the folder of an experiment and write down what is being run.

    In this order: the hyperparameters are resolved and the logging configuration is read; the
    folder is made; logging goes to ``log.txt`` in it; ``hyperparams.yaml``, a copy of the calling
    script and ``env.log`` are written, whole or not at all; uncaught exceptions are logged from
    now on. The main process does it while the others wait; when it fails, all of them raise.

    Args:
        experiment_directory: the folder; it may be there already, from an earlier run.
        hyperparams_to_save: a HyperPyYAML file, to be saved with references and overrides put in.
        overrides: values that replace those of that file: a mapping, or YAML text.
        log_config: a YAML file in the form of ``logging.config.dictConfig``; where it has a handler
            called ``file_handler``, that one writes ``log.txt``. None is the default.
        save_env_desc: whether to write ``env.log``, the description of the environment.

    Raises:
        ValueError: the hyperparameter file is missing, is not YAML, lacks a key to override, or
            cannot be resolved, or the logging configuration is none. Nothing is created or changed
            then.
    """
    hyperparameters = None
    if hyperparams_to_save is not None:
        hyperparameters = resolved_hyperparameters(hyperparams_to_save, overrides)
    log_config = DEFAULT_LOG_CONFIG if log_config is None else Path(log_config)
    log_overrides = _log_overrides(log_config, Path(experiment_directory) / "log.txt")

    folder = Path(experiment_directory)
    folder.mkdir(parents=True, exist_ok=True)
    setup_logging(log_config, log_overrides)
    if hyperparams_to_save is not None and hyperparameters is not None:
        _write_whole(folder / "hyperparams.yaml", _heading(hyperparams_to_save) + hyperparameters)
    _copy_calling_script(folder)
    log_uncaught_exceptions()
    logger.info("Beginning experiment!")
    logger.info(f"Experiment folder: {experiment_directory}")
    if save_env_desc:
        _write_whole(folder / "env.log", get_environment_description())


def _log_overrides(log_config: Path, log_file: Path) -> dict[str, Any]:
    """Return what to change in a logging configuration so that it writes ``log_file``."""
    if not log_config.exists():
        logger.warning(
            f"There is no logging configuration {log_config}: messages go to standard error, and "
            f"{log_file} is not written."
        )
        return {}
    if FILE_HANDLER not in (read_logging_configuration(log_config).get("handlers") or {}):
        logger.warning(
            f"The logging configuration {log_config} has no handler called {FILE_HANDLER}, so "
            f"{log_file} is not written."
        )
        return {}
    return {"handlers": {FILE_HANDLER: {"filename": str(log_file)}}}


def _heading(source: FilePath) -> str:
    return f"# Generated {date.today()} from:\n# {os.path.abspath(source)}\n# yamllint disable\n"


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that at any moment it has either its old or its new content."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def _copy_calling_script(folder: Path) -> None:
    script = calling_script()
    if script is not None and script != (folder / script.name).resolve():
        shutil.copy(script, folder)
