"""From run options, hparams and constructor to a Brain's attributes and the engine's settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
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
    """
    values = resolve_options(run_opts, hparams, trainer=trainer).values
    for name, value in values.items():
        if is_speechbrain_option(name):
            setattr(brain, name, value)
    _refuse(values)
    settings = {name: values[name] for name in _SETTINGS}
    given = {name for name, value in default_values().items() if values[name] != value}
    settings["trainer"] = check_trainer_mapping(settings["trainer"], given)
    shows_no_bars = values["noprogressbar"] and "noprogressbar" in given_for_the_run(run_opts)
    return EngineSettings(**settings, shows_no_bars=shows_no_bars)


def _refuse(values: Mapping[str, Any]) -> None:
    defaults = default_values()
    for name, translation in OPTION_TRANSLATION.items():
        if isinstance(translation, Refused) and values[name] != defaults[name]:
            raise OptionError(f"{name}={values[name]!r} cannot be had: {translation.reason}.")
