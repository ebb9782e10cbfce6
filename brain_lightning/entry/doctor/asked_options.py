"""The run options that a recipe's file, its constructor and its command line ask for."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ruamel.yaml
from ruamel.yaml.error import YAMLError

from brain_lightning.entry.doctor.findings import Finding, Place
from brain_lightning.entry.doctor.hyperparameter_nodes import HyperparameterNodes, NamedObject
from brain_lightning.entry.doctor.recipe_uses import Construction
from brain_lightning.ground.errors import OptionError
from brain_lightning.ground.nested_mappings import merged
from brain_lightning.parts.options.declarations import default_values, option_fields
from brain_lightning.parts.options.run_options import RunOptions, unknown_option_message


@dataclass(frozen=True)
class AskedOptions:
    """Options that somebody gives, each with where; the rest have their defaults."""

    values: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, Place | None] = field(default_factory=dict)
    """None for what the command line gives."""
    problems: tuple[Finding, ...] = ()

    def get(self, name: str) -> Any:
        """Return the value of an option."""
        return self.values[name] if name in self.values else default_values()[name]

    def place_of(self, name: str) -> Place | None:
        """Return where an option stands, None for the command line or nowhere."""
        return self.places.get(name)

    @property
    def trainer(self) -> Mapping[str, Any]:
        """The Trainer arguments."""
        value = self.get("trainer")
        return value if isinstance(value, Mapping) else {}

    @property
    def callbacks(self) -> list[NamedObject]:
        """The callbacks that the Trainer arguments name."""
        given = self.trainer.get("callbacks")
        listed = given if isinstance(given, list) else [given]
        return [each for each in listed if isinstance(each, NamedObject)]

    @property
    def strategy(self) -> Any:
        """The strategy that the Trainer arguments name, an object by its class."""
        asked = self.trainer.get("strategy")
        return asked.name.rpartition(".")[2] if isinstance(asked, NamedObject) else asked

    def with_constructors(self, made: Iterable[Construction]) -> AskedOptions:
        """Return the options with those that calls which make a Brain give as literals."""
        values, places = dict(self.values), dict(self.places)
        for construction in made:
            run_opts, trainer = map(construction.arguments.get, ("run_opts", "trainer"))
            for name, value in run_opts.items() if isinstance(run_opts, dict) else ():
                if name in option_fields():
                    values[name], places[name] = value, construction.place
            if trainer and isinstance(trainer, dict):
                given = values.get("trainer")
                values["trainer"] = merged(trainer, given if isinstance(given, Mapping) else {})
                places["trainer"] = construction.place
        return replace(self, values=values, places=places)


class WrongCommandLineError(ValueError):
    """The options of the command line cannot be understood."""


@dataclass(frozen=True)
class CommandLine:
    """What stands behind the recipe on a command line."""

    hparams: Path | None
    run_opts: RunOptions
    overrides: dict[str, Any]


def parse_command_line(arguments: Sequence[str]) -> CommandLine:
    """Read a recipe's command line as a run does, but that the file of hyperparameters may lack.

    A recipe without one may have options of its own: a value of theirs is taken for no file unless
    it is one, or stands first.

    Raises:
        WrongCommandLineError: an option has a wrong value, or something stands there that is no
            option.
    """
    try:
        path, run_opts, overrides = _parsed(arguments)
    except WrongCommandLineError as error:
        if "required: param_file" not in str(error):
            raise
        path = ""
    if not path or not (arguments[0] == path or Path(path).is_file()):
        path, (_, run_opts, overrides) = "", _parsed(["hparams.yaml", *arguments])
    return CommandLine(Path(path) if path else None, run_opts, _read_overrides(overrides))


def _parsed(arguments: Sequence[str]) -> tuple[str, RunOptions, str]:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return RunOptions.from_command_line_args(arguments)
    except SystemExit as error:
        last = said.getvalue().strip().rpartition("\n")[2]
        raise WrongCommandLineError(re.sub(r"^.*?error: ", "", last)) from error


def _read_overrides(text: str) -> dict[str, Any]:
    """Read what the parser made of `--key value` pairs that are no run options."""
    try:
        overrides = ruamel.yaml.YAML(pure=True).load(text)  # of this kind tags are kept
    except YAMLError as error:
        said = " ".join(str(error).split())
        raise WrongCommandLineError(f"a value is not YAML: {said}") from error
    if not isinstance(overrides or {}, dict):
        raise WrongCommandLineError(
            f"{text.strip()!r} stands where `--key value` is expected (an abbreviated run option "
            "does not count)."
        )
    return dict(overrides or {})


def asked_options(nodes: HyperparameterNodes | None, run_opts: RunOptions) -> AskedOptions:
    """Return what the file of hyperparameters and the command line give, checked together."""
    values: dict[str, Any] = {}
    places: dict[str, Place | None] = {}
    if nodes is not None:
        for name in (each for each in nodes.top if each in option_fields()):
            values[name], places[name] = nodes.value(name), nodes.places[name]
    for name in run_opts.overridden_args:
        given = run_opts[name]
        if name == "trainer":
            given = merged(values.get("trainer") or {}, given)
        values[name], places[name] = given, None
    asked = AskedOptions(values, places)
    return replace(asked, problems=(*_wrong_values(asked), *_wrong_trainer(asked, nodes)))


def wrong_run_opts(given: Mapping[str, Any], place: Place) -> Iterator[Finding]:
    """Check run options that a call which makes a Brain gives literally."""
    for name in given:
        if name not in option_fields():
            yield Finding(unknown_option_message(name).rstrip("."), place)
    values = {name: value for name, value in given.items() if name in option_fields()}
    asked = AskedOptions(values, dict.fromkeys(values, place))
    yield from _wrong_values(asked)
    yield from _wrong_trainer(asked, None)


def _wrong_values(asked: AskedOptions) -> Iterator[Finding]:
    """Check each value as the Brain's constructor does, but for what this machine has."""
    from brain_lightning.parts.options.resolution import resolve_options

    plain = {
        name: value
        for name, value in asked.values.items()
        if name not in ("device", "trainer") and not isinstance(value, NamedObject)
    }
    device = asked.get("device")
    if device == "cpu" or not isinstance(device, (str, NamedObject, type(None))):
        plain["device"] = device  # none that any machine has
    else:
        plain.update({"device": "cpu", **_without_fp16(plain)})
    while True:
        try:
            resolve_options(hparams=plain)
        except TypeError:
            return
        except OptionError as error:
            name = next((each for each in plain if str(error).startswith(each)), "")
            yield Finding(str(error).rstrip("."), asked.place_of(name))
            if name not in plain or plain[name] == "cpu":
                return
            del plain[name]  # and see whether there is another one
            plain.setdefault("device", "cpu")
        else:
            return


def _without_fp16(values: Mapping[str, Any]) -> dict[str, Any]:
    """What to check in place of fp16, which another machine than this one may have."""
    names = ("precision", "eval_precision")
    changed: dict[str, Any] = {name: "bf16" for name in names if values.get(name) == "fp16"}
    return {**changed, "auto_mix_prec": False}


def _wrong_trainer(asked: AskedOptions, nodes: HyperparameterNodes | None) -> Iterator[Finding]:
    if asked.values.get("trainer") is None:
        return
    # Only here is Lightning needed, whose import takes seconds.
    from brain_lightning.engine.trainer.trainer_argument_types import default_of
    from brain_lightning.engine.trainer.trainer_configuration import check_trainer_mapping

    given = {name for name, value in default_values().items() if asked.get(name) != value}
    trainer = asked.values["trainer"]
    names = list(trainer) if isinstance(trainer, Mapping) else [None]
    for name in names:
        part = trainer
        if name is not None:
            value = _without_objects(trainer[name])
            part = {name: default_of(name) if isinstance(value, NamedObject) else value}
        if isinstance(part, Mapping) and name == "callbacks":
            continue
        try:
            check_trainer_mapping(part, given)
        except OptionError as error:
            yield Finding(str(error).rstrip("."), _place_in_trainer(asked, nodes, name))


def _without_objects(value: Any) -> Any:
    """Return a list without what the file would make; nothing is made here."""
    if not isinstance(value, list):
        return value
    return [each for each in value if not isinstance(each, NamedObject)]


def _place_in_trainer(
    asked: AskedOptions, nodes: HyperparameterNodes | None, name: str | None
) -> Place | None:
    if nodes is None or asked.place_of("trainer") is None:
        return asked.place_of("trainer")
    return nodes.place_of("trainer", *([] if name is None else [str(name)]))
