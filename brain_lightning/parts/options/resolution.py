"""Which value each option has in the end: default < hyperparameters < run options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from brain_lightning.ground.errors import OptionError
from brain_lightning.ground.launch_detection import read_slurm
from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.nested_mappings import merged
from brain_lightning.ground.ranks import infer_device
from brain_lightning.parts.options.declarations import (
    default_of,
    default_values,
    is_speechbrain_option,
    option_fields,
    option_of,
)
from brain_lightning.parts.options.devices import check_device
from brain_lightning.parts.options.replaced_defaults import effective_defaults
from brain_lightning.parts.options.run_options import RunOptions
from brain_lightning.parts.options.value_types import checked_value

logger = get_logger(__name__)

# What parse_arguments writes into the options for its own use, not choices of the user.
RECORDS = ("param_file", "overridden_args")
DEPRECATED_PRECISIONS = {"auto_mix_prec": "fp16", "bfloat16_mix_prec": "bf16"}


class ResolvedOptions(NamedTuple):
    """The value of every option, and the names of those that somebody gave."""

    values: dict[str, Any]
    given: set[str]


def resolve_options(
    run_opts: RunOptions | Mapping[str, Any] | None = None,
    hparams: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
) -> ResolvedOptions:
    """Find the value of every option and check them together.

    Args:
        run_opts: options of the run; a mapping gives all that it holds, ``RunOptions`` (ours or
            SpeechBrain's) what its ``overridden_args`` names.
        hparams: Hyperparameters; those that are called like an option give it.
        defaults: values for what nobody gives, in place of ours; see ``default_values``.
        trainer: arguments of ``lightning.Trainer`` from Brain's constructor. They come after those
            of ``hparams`` and before those of ``run_opts``.

    Returns:
        The value of every option: ``device`` is a device that exists, the deprecated precision
        flags have set ``precision``, and ``ckpt_interval_minutes`` is 0 when only steps were given.

    Raises:
        TypeError: ``run_opts`` is of a wrong type or has an unknown key.
        ValueError: a value, or two together, cannot work.
    """
    usual = {**effective_defaults(), **(defaults or {})}
    from_hparams = _from_hparams(hparams or {}, usual)
    from_run_opts = _from_run_opts(run_opts, usual)
    _report_sources(from_hparams, from_run_opts)
    values = {**usual, **from_hparams, **from_run_opts}
    values = {name: _checked(name, values[name]) for name in option_fields()}
    given = (from_hparams.keys() | from_run_opts.keys()) - set(RECORDS)
    values["trainer"] = _merged_trainer(from_hparams, trainer, from_run_opts)
    if trainer is not None:
        given.add("trainer")
    _apply_deprecated_precisions(values)
    _settle_checkpoint_intervals(values, given)
    _settle_device(values)
    return ResolvedOptions(values, given)


def _from_hparams(hparams: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options among hyperparameters.

    A recipe may have put all run options into its hyperparameters, with the record of which were
    given; those that were not and still have their default are nobody's choice.
    """
    found = {
        name: hparams[name]
        for name in option_fields()
        if name in hparams and (is_speechbrain_option(name) or _is_meant(name, hparams[name]))
    }
    if "overridden_args" not in found:
        return found
    recorded = found["overridden_args"]
    return {
        name: value
        for name, value in found.items()
        if name in RECORDS or name in recorded or value != defaults[name]
    }


def _is_meant(name: str, value: Any) -> bool:
    """Whether a hyperparameter with the name of an option of ours alone can be that option.

    A recipe may have had a key of that name, for something else, before the option existed.
    ``trainer`` is always ours: it is how a YAML file reaches Lightning.
    """
    if name == "trainer":
        return True
    try:
        _checked(name, value)
    except OptionError as error:
        logger.warning(f"The hyperparameter {name} is not taken for the run option: {error}")
        return False
    return True


def _from_run_opts(run_opts: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    if run_opts is None:
        return {}
    run_opts = _as_run_options(run_opts)
    given = _given_in(run_opts)
    _warn_of_ignored(run_opts, given, defaults)
    return given


def given_for_the_run(run_opts: Any) -> set[str]:
    """Return the names of the options that ``run_opts`` gives, as ``resolve_options`` has it."""
    return set() if run_opts is None else set(_given_in(_as_run_options(run_opts)))


def _as_run_options(run_opts: Any) -> Any:
    if isinstance(run_opts, Mapping):
        return RunOptions.from_dictionary(run_opts)
    if not hasattr(run_opts, "overridden_args"):
        raise TypeError(
            f"run_opts is a {type(run_opts).__name__}; it must be RunOptions, as parse_arguments "
            "returns them, or a dict of options."
        )
    return run_opts


def _given_in(run_opts: Any) -> dict[str, Any]:
    return {name: run_opts[name] for name in option_fields() if name in run_opts.overridden_args}


def _warn_of_ignored(run_opts: Any, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Say which options have a value but do not count as given, as in SpeechBrain."""
    usual = default_values()
    for name in option_fields():
        if name in given or name in RECORDS or name not in run_opts:
            continue
        if run_opts[name] not in (defaults[name], usual[name], default_values("speechbrain")[name]):
            logger.warning(
                f"The run option {name}={run_opts[name]!r} is ignored, as SpeechBrain ignores it: "
                f"on the command line only --{name}, written out in full, counts as given; in "
                f"Python, use RunOptions.from_dictionary({{{name!r}: {run_opts[name]!r}}})."
            )


def _report_sources(from_hparams: Mapping[str, Any], from_run_opts: Mapping[str, Any]) -> None:
    for name in from_hparams:
        if name in RECORDS:
            continue
        if name == "trainer" and name in from_run_opts:
            logger.info(
                "Run option trainer from hparams is used, with what the command line or run_opts "
                f"give: {from_run_opts[name]}"
            )
        elif name in from_run_opts:
            logger.info(
                f"Run option {name} from hparams is overridden by the command line or run_opts: "
                f"{from_run_opts[name]}"
            )
        else:
            logger.info(f"Run option {name} from hparams is used")


def _checked(name: str, value: Any) -> Any:
    """Return the value of one option in its proper type, or refuse it."""
    declared = option_fields()[name]
    if value is None and "None" not in _type_text(declared):
        return default_of(declared)  # an empty value in a YAML file
    try:
        value = checked_value(_type_text(declared), value)
    except ValueError as expected:
        raise OptionError(
            f"{name} is {value!r} (of type {type(value).__name__}); it must be {expected}."
        ) from None
    choices = option_of(declared).choices
    if choices is not None and value is not None and value not in choices:
        raise OptionError(f"{name} is {value!r}; it can be one of {', '.join(choices)}.")
    if name == "grad_accumulation_factor" and value < 1:
        raise OptionError(
            f"{name} is {value}; it must be 1 (step after every batch) or a larger integer."
        )
    return value


def _type_text(declared: dataclasses.Field[Any]) -> str:
    assert isinstance(declared.type, str)
    return declared.type


def _merged_trainer(
    from_hparams: Mapping[str, Any],
    trainer: Mapping[str, Any] | None,
    from_run_opts: Mapping[str, Any],
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for layer in (from_hparams.get("trainer"), trainer, from_run_opts.get("trainer")):
        if layer is not None:
            result = merged(result, _checked("trainer", layer))
    return result


def _apply_deprecated_precisions(values: dict[str, Any]) -> None:
    for name, precision in DEPRECATED_PRECISIONS.items():
        if values[name]:
            logger.warning(
                f"The option {name} is deprecated and will be removed: "
                f"write --precision={precision} in its place."
            )
            values["precision"] = precision


def _settle_checkpoint_intervals(values: dict[str, Any], given: set[str]) -> None:
    minutes, steps = values["ckpt_interval_minutes"], values["ckpt_interval_steps"]
    if minutes <= 0 or steps <= 0:
        return
    if "ckpt_interval_minutes" in given:
        raise OptionError(
            f"ckpt_interval_minutes is {minutes:g} and ckpt_interval_steps is {steps}; only one "
            "of them can set when to save. Set the other one to 0."
        )
    values["ckpt_interval_minutes"] = 0


def _settle_device(values: dict[str, Any]) -> None:
    if values["device"] is None:
        read_slurm(not values["no_slurm_detection"])
        values["device"] = infer_device()
    check_device(values["device"])
    if torch.device(values["device"]).type != "cpu":
        return
    for name in ("precision", "eval_precision"):
        if values[name] == "fp16":
            raise OptionError(
                f"{name} is fp16 and the device is the CPU, where fp16 is not supported. "
                f"Use --{name}=bf16, or a GPU."
            )
