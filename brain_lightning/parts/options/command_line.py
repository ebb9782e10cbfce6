"""The command line of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from brain_lightning.parts.options.run_options import RunOptions


def parse_arguments(
    arg_list: Sequence[str] | None = None, defaults: Mapping[str, Any] | None = None
) -> tuple[str, RunOptions, str]:
    """Parse the command line of a recipe, as ``facade.command_line`` describes it.

    Arguments of the Trainer are taken as they are: what there is of them, only Lightning knows.
    """
    return RunOptions.from_command_line_args(arg_list, defaults)
