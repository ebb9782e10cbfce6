"""The command line of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from brain_lightning.parts.options.run_options import RunOptions


def parse_arguments(
    arg_list: Sequence[str] | None = None, defaults: Mapping[str, Any] | None = None
) -> tuple[str, RunOptions, str]:
    """Parse the command line of a recipe.

    Args:
        arg_list: the arguments; if not given, those of the program.
        defaults: values for options that are not given, in place of ours; see ``default_values``.

    Returns:
        param_file: The file of hyperparameters. run_opts: The options of the run; those that are
        given are named in ``overridden_args``. overrides: All other arguments, as YAML text: the
        overrides to load the hyperparameters with.

    Raises:
        CommandLineError: a SystemExit with status 2 that is also a ValueError: an option has a
            wrong value or none, or there is no hyperparameter file. The usage is then on standard
            error.
    """
    return RunOptions.from_command_line_args(arg_list, defaults)
