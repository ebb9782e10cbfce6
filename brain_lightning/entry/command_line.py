"""The program ``brain-lightning``: its subcommands, each in a file of its own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from brain_lightning.entry.closed_pipe import show
from brain_lightning.version import __version__


class Command(NamedTuple):
    """A subcommand."""

    module: str
    """Has a function ``main(arguments) -> exit status``; imported when the command is used."""
    usage: str
    summary: str


COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "run": Command(
            "brain_lightning.entry.run_command",
            "run RECIPE.py HPARAMS.yaml [OPTIONS]",
            "run a SpeechBrain recipe as it stands, on Lightning",
        ),
        "doctor": Command(
            "brain_lightning.entry.doctor_command",
            "doctor RECIPE.py [HPARAMS.yaml] | --ranks",
            "say what a recipe will do here, and what is refused, without running it",
        ),
        "convert": Command(
            "brain_lightning.entry.convert_command",
            "convert SOURCE TARGET | --list PATH",
            "convert a checkpoint to Lightning's format or back, or list what is in it",
        ),
    }
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: what stands after the program's name; if not given, that of this process.

    Returns:
        The exit status: 2 when the command line is wrong.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    first, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if first in ("-h", "--help"):
        return show(_help())
    if first == "--version":
        return show(f"brain-lightning {__version__}")
    if first not in COMMANDS:
        problem = f"there is no command {first!r}" if first else "a command is missing"
        print(f"{_help()}\n\nbrain-lightning: error: {problem}.", file=sys.stderr)
        return 2
    run: Callable[[Sequence[str]], int] = importlib.import_module(COMMANDS[first].module).main
    return run(rest)


def _help() -> str:
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = [f"  {command.usage:<{width}}  {command.summary}" for command in COMMANDS.values()]
    return "\n".join(
        [
            "usage: brain-lightning COMMAND ... (or: python -m brain_lightning COMMAND ...)",
            "",
            "SpeechBrain recipes on Lightning.",
            "",
            *lines,
            "",
            "options: -h, --help; --version. Each command has a --help of its own.",
        ]
    )
