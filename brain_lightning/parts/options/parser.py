"""Reading a command line: SpeechBrain's options as its own parser reads them, and ours.

Only SpeechBrain's options can be abbreviated, as argparse does it, and only they take part in
that: an abbreviation that is one under SpeechBrain stays the same one here, and the key of a
recipe that begins like an option of ours stays the recipe's.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from typing_extensions import override

from brain_lightning.ground.nested_mappings import merged
from brain_lightning.parts.options.declarations import (
    default_of,
    option_fields,
    option_of,
)
from brain_lightning.parts.options.replaced_defaults import effective_defaults
from brain_lightning.parts.options.trainer_arguments import nested, read_scalar

TRAINER_PREFIX = "--trainer."
# Stands in the place of an option of ours, so that what follows is not taken for the values of
# an option before it. No argument of a program can contain this character.
_PLACEHOLDER = "--\0"


class CommandLineError(SystemExit, ValueError):
    """The command line is wrong: a ValueError that, if nobody catches it, ends with status 2."""

    def __init__(self, message: str) -> None:
        """Keep the sentence, which has been written to standard error already."""
        super().__init__(message)
        self.code = 2


def refuse_command_line(sentence: str, program: str | None = None) -> NoReturn:
    """End the program with a sentence on standard error and status 2.

    Raises:
        CommandLineError: unless somebody catches it, that is the end.
    """
    program = os.path.basename(sys.argv[0]) if program is None else program
    print(f"{program}: error: {sentence}", file=sys.stderr)
    raise CommandLineError(sentence)


@dataclass(frozen=True)
class ParsedCommandLine:
    """What a command line says.

    Args:
        values: the value of each option that a command line can give, and ``param_file``.
        given: the names of the options that were given.
        overrides: the rest, as YAML text to override hyperparameters with.
    """

    values: dict[str, Any]
    given: set[str]
    overrides: str


def parse(arg_list: Sequence[str], defaults: Mapping[str, Any] | None = None) -> ParsedCommandLine:
    """Read a command line.

    Args:
        arg_list: the arguments without the program's name.
        defaults: values for options that are not given, in place of ours.

    Raises:
        CommandLineError: an argument is wrong; the usage is then on standard error.
    """
    parser = _make_parser({**effective_defaults(), **(defaults or {})})
    own = _OwnArguments(parser)
    rest = own.take_from(arg_list)
    namespace, extra = parser.parse_known_args(rest)
    values = {name: value for name, value in vars(namespace).items() if name in option_fields()}
    return ParsedCommandLine(
        values={**values, **own.values},
        given=_speechbrain_options_in(rest) | own.values.keys(),
        overrides=_as_yaml(extra),
    )


def own_options_in(arg_list: Sequence[str]) -> dict[str, Any]:
    """Return the options of ours on a command line, as far as they can be understood.

    For those who must know before the recipe reads its command line. That may be the recipe's own,
    with an option of a name of ours: what is wrong here is refused by ``parse``, if it is called.
    """
    own = _OwnArguments(_QuietParser())
    with contextlib.suppress(CommandLineError):
        own.take_from(arg_list)
    return own.values


class _Parser(argparse.ArgumentParser):
    """A parser of SpeechBrain's options that shows the help of all."""

    defaults: Mapping[str, Any] = {}

    @override
    def format_help(self) -> str:
        return _make_parser_of_all(self.defaults).format_help()

    @override
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        advice = "Run with --help for the options and their values."
        refuse_command_line(f"{message.rstrip('.')}. {advice}", self.prog)


class _QuietParser(_Parser):
    """Leaves it to another one to say what is wrong."""

    @override
    def error(self, message: str) -> NoReturn:
        raise CommandLineError(message)


def _make_parser(defaults: Mapping[str, Any]) -> _Parser:
    parser = _Parser()
    parser.defaults = defaults
    _add_options(parser, defaults, speechbrain=True)
    parser.add_argument(_PLACEHOLDER, action="store_true", help=argparse.SUPPRESS)
    return parser


def _make_parser_of_all(defaults: Mapping[str, Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Run an experiment. Anything else, as --KEY VALUE, overrides a hyperparameter."
    )
    _add_options(parser, defaults, speechbrain=True)
    own = parser.add_argument_group("options of brain_lightning")
    _add_options(own, defaults, speechbrain=False)
    return parser


def _add_options(
    parser: argparse._ActionsContainer, defaults: Mapping[str, Any], speechbrain: bool
) -> None:
    fields = option_fields()
    if speechbrain:
        parser.add_argument("param_file", help=option_of(fields["param_file"]).help)
    for name in command_line_options(speechbrain):
        parser.add_argument(f"--{name}", **_argument(fields[name], defaults[name]))


@functools.cache
def command_line_options(speechbrain: bool) -> tuple[str, ...]:
    """Return the names of the options of one origin that a command line can give."""
    return tuple(
        name
        for name, declared in option_fields().items()
        if option_of(declared).on_command_line and option_of(declared).speechbrain is speechbrain
    )


def _argument(declared: dataclasses.Field[Any], default: Any) -> dict[str, Any]:
    """Return what ``add_argument`` is to be told about an option."""
    option = option_of(declared)
    own_default = default_of(declared)
    argument: dict[str, Any] = {"default": default, "help": _help_text(option.help, default)}
    if own_default is False:
        argument["action"] = "store_true"
    elif str(declared.type).startswith("list"):
        argument["nargs"] = "*"
    elif own_default is not None and not isinstance(own_default, dict):
        argument["type"] = bool_from_text if own_default is True else _conversion(declared)
    if option.refused_when_parsed:
        argument["choices"] = list(option.choices or ())
    return argument


def _help_text(sentence: str, default: Any) -> str:
    shown = "" if default is None or default is False or default == {} else f" Default: {default}."
    return (sentence + shown).replace("%", "%%")


def _conversion(declared: dataclasses.Field[Any]) -> Callable[[str], Any]:
    usual = type(default_of(declared))
    takes_whole_ones = type(default_of(declared, "speechbrain")) is int
    return number if usual is float and takes_whole_ones else usual


def number(text: str) -> int | float:
    """Read a number; a whole one is an integer, as SpeechBrain's parser takes no other."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def bool_from_text(text: str) -> bool:
    """Read true or false."""
    value = read_scalar(text.lower())
    if not isinstance(value, bool):
        raise ValueError(f"{text!r} is neither true nor false")
    return value


@dataclass
class _OwnArguments:
    """The options that SpeechBrain does not have, taken out of a command line."""

    parser: _Parser
    values: dict[str, Any] = field(default_factory=dict)

    def take_from(self, arg_list: Sequence[str]) -> list[str]:
        """Read our options into ``values``; return the arguments with placeholders for them."""
        rest: list[str] = []
        waiting = list(reversed(arg_list))
        while waiting:
            argument = waiting.pop()
            name, separator, attached = argument.partition("=")
            if argument == "--":  # what follows are no options
                return [*rest, argument, *reversed(waiting)]
            if not self._is_own(name):
                rest.append(argument)
                continue
            text = attached if separator else None
            if text is None and not self._is_flag(name):
                text = self._following_value(name, waiting)
            self._take(name, text)
            rest.append(_PLACEHOLDER)
        return rest

    def _is_own(self, name: str) -> bool:
        if name.startswith(TRAINER_PREFIX):
            return " " not in name  # argparse takes such a thing for a value, too
        return name.startswith("--") and name[2:] in command_line_options(speechbrain=False)

    def _is_flag(self, name: str) -> bool:
        declared = option_fields().get(name[2:])
        return declared is not None and default_of(declared) is False

    def _following_value(self, name: str, waiting: list[str]) -> str:
        if not waiting or waiting[-1].startswith("--"):
            self.parser.error(f"argument {name}: expected one value")
        return waiting.pop()

    def _take(self, name: str, text: str | None) -> None:
        key = name[2:]
        try:
            if name.startswith(TRAINER_PREFIX) or key == "trainer":
                self._take_trainer(name, text or "")
            else:
                self.values[key] = self._value(key, text)
        except ValueError as error:
            self.parser.error(f"argument {name}: {error}")

    def _take_trainer(self, name: str, text: str) -> None:
        value = read_scalar(text)
        if name.startswith(TRAINER_PREFIX):
            value = nested(name[len(TRAINER_PREFIX) :], value)
        if not isinstance(value, dict):
            raise ValueError(
                f"{text!r} is no mapping; write --trainer.KEY VALUE for each argument of "
                "lightning.Trainer. An option of the recipe's own must have another name"
            )
        self.values["trainer"] = merged(self.values.get("trainer", {}), value)

    def _value(self, key: str, text: str | None) -> Any:
        declared = option_fields()[key]
        if self._is_flag(f"--{key}"):
            if text is not None:
                raise ValueError(f"it is a switch and takes no value, but was given {text!r}")
            return True
        assert text is not None
        choices = option_of(declared).choices
        if choices is not None and text not in choices:
            raise ValueError(f"{text!r} is not one of {', '.join(choices)}")
        convert = _argument(declared, None).get("type", str)
        try:
            return convert(text)
        except ValueError:
            raise ValueError(f"{text!r} is no {declared.type}") from None


def _speechbrain_options_in(arguments: Iterable[str]) -> set[str]:
    """Return the options that are written out in full.

    SpeechBrain looks at the arguments as text: an abbreviated option has its value, but does
    not count as given, so that Brain does not use it.
    """
    names = {f"--{name}": name for name in command_line_options(speechbrain=True)}
    written = (argument.partition("=")[0] for argument in arguments)
    return {names[argument] for argument in written if argument in names}


def _as_yaml(arguments: Sequence[str]) -> str:
    """Return ``--key value`` and ``--key=value`` as lines of YAML."""
    pieces = (piece for argument in arguments for piece in argument.split("="))
    lines = (f"\n{piece[2:]}:" if piece.startswith("--") else f" {piece}" for piece in pieces)
    return "".join(lines).strip()
