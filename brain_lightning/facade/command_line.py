"""The command line of a recipe, with the Trainer arguments on it checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from brain_lightning.ground.errors import OptionError
from brain_lightning.parts.options import command_line
from brain_lightning.parts.options.parser import refuse_command_line
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
        CommandLineError: a SystemExit with status 2 that is also a ValueError: an option or an
            argument of the Trainer has a wrong value or none, or there is none of that name, or no
            hyperparameter file, or a package is missing. What is wrong is on standard error then.
    """
    param_file, run_opts, overrides = command_line.parse_arguments(arg_list, defaults)
    if "trainer" in run_opts.overridden_args:
        # Here, because its import takes seconds.
        from brain_lightning.engine.trainer.arguments_given_early import check_given_early

        try:
            check_given_early(run_opts.trainer)
        except (OptionError, ImportError) as error:
            refuse_command_line(str(error))
    return param_file, run_opts, overrides
