"""From a Brain, its options and the user's ``trainer`` mapping to the arguments of a Trainer."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch.callbacks import BatchSizeFinder, GradientAccumulationScheduler
from lightning.pytorch.plugins import Precision

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.connection import Connection, connection_of
from brain_lightning.engine.defaults import overridden_places
from brain_lightning.engine.hyperparameters import hyperparameters_of
from brain_lightning.engine.lightning_internals import validates_by_time
from brain_lightning.engine.settings import EngineSettings
from brain_lightning.engine.trainer.optimization_choice import why_automatic_from
from brain_lightning.engine.trainer.option_translation import owner_of
from brain_lightning.engine.trainer.placement import PLACES, placement
from brain_lightning.engine.trainer.precision import (
    LIGHTNING_NAMES,
    BrainPrecision,
    ScaledPrecision,
)
from brain_lightning.engine.trainer.process_group_environment import environment_of_one_process
from brain_lightning.engine.trainer.progress_bar import BrainProgressBar, StageBar
from brain_lightning.engine.trainer.short_names import check_short_names, made_from_names
from brain_lightning.engine.trainer.strategies import InPlaceSingleDevice
from brain_lightning.engine.trainer.strategy_choice import check_strategy_name, strategy_in
from brain_lightning.engine.trainer.trainer_argument_types import with_checked_types
from brain_lightning.ground.errors import OptionError
from brain_lightning.ground.loggers import get_logger
from brain_lightning.parts.recipe_rules.strategy_rules import DEEPSPEED

logger = get_logger(__name__)

NEVER = 2**31 - 1
"""An interval that no run reaches."""

FIXED: dict[str, tuple[Any, str]] = {
    "max_epochs": (-1, "the epoch counter given to fit() says how many epochs there are: change "
                       "its limit, such as with --number_of_epochs"),
    "num_sanity_val_steps": (0, "a recipe's hooks must not run on validation data before training"),
    "inference_mode": (False, "recipes may use what they compute in evaluation for training"),
    "use_distributed_sampler": (False, "the samplers are made by Brain.make_dataloader()"),
    "reload_dataloaders_every_n_epochs": (0, "the loaders are given to fit()"),
    "barebones": (False, "it has no place for Brain's hooks; make a Trainer(barebones=True) "
                         "yourself and give it BrainModule(brain)"),
}  # fmt: skip
"""Trainer arguments with one possible value inside Brain.fit(), and why."""

DEFAULTS: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
}
"""Trainer arguments that write or print something: off unless the user asks for them."""


def check_trainer_mapping(mapping: Any, given: Container[str] = ()) -> dict[str, Any]:
    """Check what the user gave as ``trainer`` and return it as a dictionary.

    Args:
        mapping: what the user gave.
        given: the run options that have another value than their default.

    Raises:
        OptionError: an unknown argument, a value of a wrong type, or an argument that a run option
            or the engine sets.
    """
    if not isinstance(mapping, Mapping):
        raise OptionError(
            f"trainer must map arguments of lightning.Trainer to their values, got {mapping!r}."
        )
    for name in mapping:
        check_argument_names((name,))
        if name in FIXED and mapping[name] != FIXED[name][0]:
            raise OptionError(
                f"trainer: {name}={mapping[name]!r} cannot be set in Brain.fit(): {FIXED[name][1]}."
            )
        owner = owner_of(name, given)
        if owner is not None and name not in PLACES:
            raise OptionError(
                f"trainer: {name}={mapping[name]!r} cannot be set, because it comes from the run "
                f"option {owner!r}. Set {owner!r} instead of trainer.{name}."
            )
    checked = with_checked_types(mapping)
    check_short_names(mapping)
    check_strategy_name(mapping.get("strategy", "auto"))
    for callback in _as_list(mapping.get("callbacks")):
        _check_callback(callback)
    for plugin in _as_list(mapping.get("plugins")):
        if isinstance(plugin, Precision):
            raise OptionError(
                f"trainer: the plugin {type(plugin).__name__} cannot be given, because the "
                "precision comes from the run option 'precision'. Set 'precision' instead."
            )
    return checked


def check_argument_names(names: Iterable[Any]) -> None:
    """Refuse names that no argument of ``lightning.Trainer`` has.

    Raises:
        OptionError: with the nearest name.
    """
    known = inspect.signature(pl.Trainer.__init__).parameters.keys() - {"self"}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise OptionError(f"trainer: lightning.Trainer has no argument {name!r}.{hint}")


def _check_callback(callback: Any) -> None:
    if not isinstance(callback, pl.Callback):
        raise OptionError(
            f"trainer: callbacks must be objects such as lightning.pytorch.callbacks.Timer(), got "
            f"{callback!r}. In YAML, write !new: and the class's name."
        )
    if isinstance(callback, BatchSizeFinder):
        kind = type(callback)
        if kind.on_fit_start is not BatchSizeFinder.on_fit_start:
            raise OptionError(
                f"trainer: the callback {kind.__name__} overrides on_fit_start(), but in "
                "Brain.fit() the batch size is found before the loaders are made, and then stays. "
                "Use BatchSizeFinder itself, or make a Trainer yourself and give it "
                "BrainModule(brain) and a LightningDataModule."
            )


def only_before_loaders(callbacks: Any) -> list[BatchSizeFinder]:
    """Return the callbacks whose work is done before ``fit()`` makes its loaders."""
    return [each for each in _as_list(callbacks) if isinstance(each, BatchSizeFinder)]


def make_trial_trainer(
    brain: BrainProtocol, settings: EngineSettings, callbacks: list[pl.Callback]
) -> pl.Trainer:
    """Make a Trainer that tries training out where the Brain's own would train.

    Args:
        brain: the recipe.
        settings: the options that are not attributes of the Brain.
        callbacks: the only ones that it has.
    """
    user = _users_arguments(brain, connection_of(brain), settings)
    places = placement(brain, user)
    return pl.Trainer(
        **DEFAULTS,
        **places,
        callbacks=callbacks,
        default_root_dir=user.get("default_root_dir"),
        enable_progress_bar=False,
        inference_mode=False,
        max_epochs=1,
        num_sanity_val_steps=0,
        plugins=[_precision(brain, settings), *_environments(places["strategy"])],
        use_distributed_sampler=False,
    )


def make_trainer(
    brain: BrainProtocol,
    settings: EngineSettings,
    bar: StageBar,
    recipe_validates: bool = False,
) -> pl.Trainer:
    """Make the Trainer of one fit() or evaluate().

    Args:
        brain: the recipe.
        settings: the options that are not attributes of the Brain.
        bar: the progress bar of the run.
        recipe_validates: the recipe overrides ``_fit_valid`` and calls validation itself.
    """
    user = _users_arguments(brain, connection_of(brain), settings)
    # What stands later wins.
    arguments: dict[str, Any] = {
        **DEFAULTS,
        **{name: value for name, (value, _) in FIXED.items()},
        **placement(brain, user),
        **_arguments_from_options(brain, settings, user),
        **{name: value for name, value in user.items() if name not in PLACES},
        **_callback_arguments(user.get("callbacks"), bar, settings),
        **_precision_arguments(brain, settings, user),
    }
    arguments["plugins"] += _environments(arguments["strategy"], arguments["plugins"])
    if recipe_validates:
        _refuse_intervals(brain, settings, arguments)
        arguments["check_val_every_n_epoch"] = NEVER
    trainer = pl.Trainer(**arguments)
    _refuse_durations_together(trainer, arguments["val_check_interval"])
    return trainer


def _arguments_from_options(
    brain: BrainProtocol, settings: EngineSettings, user: Mapping[str, Any]
) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "detect_anomaly": torch.is_anomaly_enabled(),
        "val_check_interval": 1.0,
    }
    if settings.val_interval_steps > 0:
        arguments["val_check_interval"] = settings.val_interval_steps
        arguments["check_val_every_n_epoch"] = None  # epochs may have fewer steps than that
    if _is_automatic(settings):
        arguments["accumulate_grad_batches"] = _accumulation(brain, user)
    if "callbacks" in user:  # asked for, so allowed to save
        arguments["enable_checkpointing"] = _has_checkpoint_callback(user["callbacks"])
    return arguments


def _callback_arguments(given: Any, bar: StageBar, settings: EngineSettings) -> dict[str, Any]:
    callbacks = _as_list(given)
    if settings.shows_no_bars and not bar.enabled:
        callbacks = _without_bars(callbacks)
    callbacks = _with_bar(callbacks, bar)
    return {"callbacks": callbacks, "enable_progress_bar": any(map(_is_bar, callbacks))}


def _precision_arguments(
    brain: BrainProtocol, settings: EngineSettings, user: Mapping[str, Any]
) -> dict[str, Any]:
    plugins = _as_list(user.get("plugins"))
    if strategy_in(user) != DEEPSPEED:
        return {"plugins": [*plugins, _precision(brain, settings)]}
    # It has plugins of its own, and clips by itself.
    return {
        "plugins": plugins,
        "precision": LIGHTNING_NAMES[brain.precision],
        "gradient_clip_val": brain.max_grad_norm,
    }


def _environments(strategy: object, plugins: Sequence[Any] = ()) -> list[ClusterEnvironment]:
    """Return the place among others of a process that runs this alone, unless the user gives it."""
    is_given = any(isinstance(plugin, ClusterEnvironment) for plugin in plugins)
    if is_given or not isinstance(strategy, InPlaceSingleDevice):
        return []
    return [environment_of_one_process()]


def _refuse_durations_together(trainer: pl.Trainer, interval: object) -> None:
    """Refuse to validate by a clock where several processes must come to the same batch.

    Raises:
        OptionError: they would.
    """
    if validates_by_time(trainer) and trainer.world_size > 1:
        raise OptionError(
            f"trainer.val_check_interval={interval!r} is a duration, but the {trainer.world_size} "
            "processes of this run must validate after the same batch. Write a number of batches, "
            "or a share of the epoch."
        )


def _refuse_intervals(
    brain: BrainProtocol, settings: EngineSettings, arguments: Mapping[str, Any]
) -> None:
    """Refuse to set when to validate where the recipe's own ``_fit_valid`` says it.

    Raises:
        OptionError: names what was given, and where the method is.
    """
    asked = [f"val_interval_steps={settings.val_interval_steps}"]
    if settings.val_interval_steps <= 0:
        usual = {"val_check_interval": 1.0, "check_val_every_n_epoch": 1}
        given = {name: arguments.get(name, value) for name, value in usual.items()}
        asked = [f"trainer.{name}={given[name]!r}" for name in usual if given[name] != usual[name]]
    if asked:
        place = overridden_places(brain, ("_fit_valid",))["_fit_valid"]
        raise OptionError(
            f"{' and '.join(asked)} cannot be had: {type(brain).__name__} overrides _fit_valid "
            f"({place}), which is called after each epoch and says itself when to validate. Leave "
            "out one of the two."
        )


def plain_loading(trainer: pl.Trainer) -> dict[str, Any]:
    """Return the argument of ``trainer.fit`` that loads tensors and plain values only.

    It is said explicitly because Lightning's default follows torch's (PL#21757); 2.5 has no such
    argument.
    """
    known = inspect.signature(trainer.fit).parameters
    return {"weights_only": True} if "weights_only" in known else {}


def _users_arguments(
    brain: BrainProtocol, connection: Connection, settings: EngineSettings
) -> dict[str, Any]:
    """Return the user's arguments with objects in the place of names."""
    user = dict(settings.trainer)
    early = only_before_loaders(user.get("callbacks"))
    if early:
        user["callbacks"] = [each for each in _as_list(user["callbacks"]) if each not in early]
    if connection.module is not None:
        # One object cannot follow two runs at once: callbacks follow the outer one.
        user.pop("callbacks", None)
        user.pop("profiler", None)
    folder = hyperparameters_of(brain).get("output_folder")
    if folder is not None:
        user.setdefault("default_root_dir", str(folder))
    if not connection.trainer_objects:
        root = Path(user.get("default_root_dir") or ".")
        connection.trainer_objects = made_from_names(settings.trainer, root)
    user.update({k: v for k, v in connection.trainer_objects.items() if k in user})
    return user


def _is_automatic(settings: EngineSettings) -> bool:
    asked = settings.optimization == "automatic"
    return asked or why_automatic_from(settings.trainer) is not None


def _accumulation(brain: BrainProtocol, user: Mapping[str, Any]) -> int:
    for callback in _as_list(user.get("callbacks")):
        if isinstance(callback, GradientAccumulationScheduler):
            if brain.grad_accumulation_factor != 1:
                raise OptionError(
                    f"grad_accumulation_factor is {brain.grad_accumulation_factor}, but the "
                    "callback GradientAccumulationScheduler sets it. Leave out one of the two."
                )
            return 1
    return brain.grad_accumulation_factor


def _precision(brain: BrainProtocol, settings: EngineSettings) -> BrainPrecision | ScaledPrecision:
    if _is_automatic(settings) and brain.scaler.is_enabled():
        return ScaledPrecision(brain.device_type, brain.scaler)
    return BrainPrecision(brain.precision)


def _without_bars(callbacks: list[pl.Callback]) -> list[pl.Callback]:
    for bar in filter(_is_bar, callbacks):
        logger.warning_once(
            "noprogressbar was given for this run, so the callback %s is left out. Leave out "
            "noprogressbar to see it.",
            type(bar).__name__,
        )
    return [each for each in callbacks if not _is_bar(each)]


def _with_bar(callbacks: list[pl.Callback], bar: StageBar) -> list[pl.Callback]:
    if any(map(_is_bar, callbacks)):
        bar.enabled = False  # the user's own bar is shown in its place
        return callbacks
    return [*callbacks, BrainProgressBar(bar)] if bar.enabled else callbacks


def _is_bar(callback: pl.Callback) -> bool:
    return isinstance(callback, pl.callbacks.ProgressBar)


def _has_checkpoint_callback(callbacks: Any) -> bool:
    return any(isinstance(each, pl.callbacks.Checkpoint) for each in _as_list(callbacks))


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
