"""From run options, hparams and constructor to a Brain's attributes and the engine's settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping
from typing import Any

from brain_lightning.engine.settings import EngineSettings
from brain_lightning.engine.trainer.option_translation import OPTION_TRANSLATION, Refused
from brain_lightning.engine.trainer.trainer_configuration import check_trainer_mapping
from brain_lightning.ground.errors import OptionError
from brain_lightning.parts.options.declarations import (
    default_values,
    is_speechbrain_option,
    option_fields,
)
from brain_lightning.parts.options.parser import refuse_command_line
from brain_lightning.parts.options.resolution import given_for_the_run, resolve_options
from brain_lightning.parts.options.run_options import RunOptions

_SETTINGS = tuple(
    field.name for field in dataclasses.fields(EngineSettings) if field.name in option_fields()
)


def apply_options(
    brain: Any,
    run_opts: RunOptions | Mapping[str, Any] | None,
    hparams: Mapping[str, Any] | None,
    trainer: Mapping[str, Any] | None,
) -> EngineSettings:
    """Set SpeechBrain's options as attributes of ``brain`` and return ours.

    Raises:
        ValueError: an option has a value that cannot be.
        CommandLineError: so has an argument of the Trainer on the command line.
    """
    values = resolve_options(run_opts, hparams, trainer=trainer).values
    for name, value in values.items():
        if is_speechbrain_option(name):
            setattr(brain, name, value)
    _refuse(values)
    settings = {name: values[name] for name in _SETTINGS}
    given = {name for name, value in default_values().items() if values[name] != value}
    _check_command_line(run_opts, given)
    settings["trainer"] = check_trainer_mapping(settings["trainer"], given)
    shows_no_bars = values["noprogressbar"] and "noprogressbar" in given_for_the_run(run_opts)
    return EngineSettings(**settings, shows_no_bars=shows_no_bars)


def _check_command_line(
    run_opts: RunOptions | Mapping[str, Any] | None, given: Container[str]
) -> None:
    """Refuse what Brain's Trainer cannot have as the parser refuses what no Trainer can.

    Only here, as a recipe may make a Trainer of its own with the arguments on its command line.
    """
    # SpeechBrain's own have no arguments of the Trainer, and only a command line gives the file.
    if not isinstance(run_opts, RunOptions | Mapping) or not run_opts.get("param_file"):
        return
    try:
        check_trainer_mapping(run_opts.get("trainer") or {}, given)
    except OptionError as error:
        refuse_command_line(str(error))


def _refuse(values: Mapping[str, Any]) -> None:
    defaults = default_values()
    for name, translation in OPTION_TRANSLATION.items():
        if isinstance(translation, Refused) and values[name] != defaults[name]:
            raise OptionError(f"{name}={values[name]!r} cannot be had: {translation.reason}.")
