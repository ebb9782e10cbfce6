"""Loggers and profilers by short names, as a command line can give them."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import Logger  # LitLogger is not one of lightning.pytorch
from lightning.pytorch import loggers, profilers

from brain_lightning.ground.errors import MissingExtraError, OptionError

Maker = Callable[[Path], Any]


def _mlflow(folder: Path) -> Any:
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        # From 3.x on MLflow refuses to write to a folder unless this says that it is meant.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return loggers.MLFlowLogger(save_dir=str(folder / "mlruns"))


def _neptune(folder: Path) -> Any:
    if not hasattr(loggers, "NeptuneLogger"):
        raise OptionError(
            "trainer.logger='neptune' cannot be had: from 2.6 on Lightning has no logger for "
            f"Neptune, whose service has ended. Use one of {', '.join(_WITHOUT_NEPTUNE)}."
        )
    return getattr(loggers, "NeptuneLogger")()  # noqa: B009 -- 2.5 only


LOGGERS: dict[str, Maker] = {
    "csv": lambda folder: loggers.CSVLogger(folder),
    "tensorboard": lambda folder: loggers.TensorBoardLogger(folder),
    "mlflow": _mlflow,
    "wandb": lambda folder: loggers.WandbLogger(save_dir=folder),
    # Without an API key Comet says what it needs; offline, Lightning's logger records nothing.
    "comet": lambda folder: loggers.CometLogger(offline_directory=str(folder)),
    "neptune": _neptune,
}
"""Name -> function of the folder that the logger writes to."""

_WITHOUT_NEPTUNE = [name for name in LOGGERS if name != "neptune"]

PROFILERS: dict[str, Maker] = {
    "simple": lambda folder: profilers.SimpleProfiler(folder, "simple"),
    "advanced": lambda folder: profilers.AdvancedProfiler(folder, "advanced"),
    "pytorch": lambda folder: profilers.PyTorchProfiler(folder, "pytorch"),
}
"""Name -> function of the folder that the profiler writes to."""

_EXTRAS: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
    "comet": ("comet_ml",),
}
"""Loggers whose package comes with an extra of their name -> modules of which one is needed."""


def check_short_names(mapping: Mapping[str, Any]) -> None:
    """Refuse what is neither a short name nor such an object in the user's Trainer arguments.

    Raises:
        OptionError: with the nearest name, or what to write.
    """
    for argument, names, kind, example in (
        ("logger", LOGGERS, Logger, "lightning.pytorch.loggers.CSVLogger(folder)"),
        ("profiler", PROFILERS, profilers.Profiler, "lightning.pytorch.profilers.SimpleProfiler()"),
    ):
        value = mapping.get(argument)
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(each, str):
                _check_name(argument, names, each)
            elif not (each is None or isinstance(each, (bool, kind))):
                raise OptionError(
                    f"trainer.{argument} is {each!r}; it must be an object such as {example} (in "
                    f"YAML, write !new: and the class's name), or one of the short names "
                    f"{_offered(names)}."
                )


def _check_name(argument: str, names: Mapping[str, Maker], name: str) -> None:
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise OptionError(
        f"trainer.{argument} is {name!r}; the short names are {_offered(names)}.{hint}"
    )


def _offered(names: Mapping[str, Maker]) -> str:
    gone = {"neptune"} if not hasattr(loggers, "NeptuneLogger") else set()
    return ", ".join(name for name in names if name not in gone)


def check_packages(mapping: Mapping[str, Any]) -> None:
    """Refuse the short names of loggers whose packages are not installed; nothing is imported.

    Raises:
        MissingExtraError: says which extra brings the package.
    """
    given = mapping.get("logger")
    for name in given if isinstance(given, (list, tuple)) else [given]:
        if isinstance(name, str) and name in _EXTRAS and not any(map(_is_there, _EXTRAS[name])):
            raise MissingExtraError(f"trainer.logger={name!r}", name)


def _is_there(module: str) -> bool:
    return sys.modules.get(module) is not None or importlib.util.find_spec(module) is not None


def made_from_names(mapping: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the loggers and the profiler that the user's Trainer arguments name.

    Args:
        mapping: arguments of ``lightning.Trainer``, with names in the place of objects.
        folder: where they write.

    Raises:
        ImportError: the package of a logger is missing; says which extra brings it.
    """
    made: dict[str, Any] = {}
    if "logger" in mapping:
        made["logger"] = _made("logger", LOGGERS, mapping["logger"], folder)
    if "profiler" in mapping:
        made["profiler"] = _made("profiler", PROFILERS, mapping["profiler"], folder)
    return made


def _made(argument: str, names: Mapping[str, Maker], value: Any, folder: Path) -> Any:
    if isinstance(value, (list, tuple)):
        return [_made(argument, names, each, folder) for each in value]
    if not isinstance(value, str):
        return value
    try:
        return names[value](folder)
    except ModuleNotFoundError as error:
        wanted = f"trainer.{argument}={value!r}"
        if value in _EXTRAS:
            raise MissingExtraError(wanted, value) from error
        raise ImportError(
            f"{wanted} needs a package that is not installed: install it with "
            f"`pip install {value}`."
        ) from error
