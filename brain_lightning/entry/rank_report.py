"""What launch detection finds in this process, and in which variables: ``doctor --ranks``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from brain_lightning.ground.launch_detection import VARIABLES, detect_launch

_FIELDS = (
    ("launcher", "source"),
    ("rank", "rank"),
    ("local_rank", "local_rank"),
    ("world_size", "world_size"),
    ("local_world_size", "local_world_size"),
    ("node", "node_rank"),
    ("main_address", "main_address"),
    ("main_port", "main_port"),
)
"""Key of the report -> attribute of ``Launch``."""


def rank_report(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what was detected; keys that nothing tells are None, ``launcher`` too.

    Raises:
        ValueError: a variable is no number, or the rank cannot be told.
    """
    environment = os.environ if environment is None else environment
    launch = detect_launch(environment)
    report: dict[str, Any] = {key: getattr(launch, name, None) for key, name in _FIELDS}
    report["variables"] = {name: environment[name] for name in VARIABLES if name in environment}
    return report


def rank_lines(report: Mapping[str, Any]) -> str:
    """Return the report as text."""
    if report["launcher"] is None:
        head = ["No launcher started this process: it is alone, rank 0 of 1."]
    else:
        head = [f"Started by {report['launcher']}."]
        head += [
            f"  {key.replace('_', ' '):<17}{'not known' if report[key] is None else report[key]}"
            for key, _ in _FIELDS[1:]
        ]
    variables = report["variables"]
    if not variables:
        return "\n".join([*head, "None of the variables that launchers set is there."])
    width = max(map(len, variables))
    found = [f"  {name:<{width}}  {value}" for name, value in variables.items()]
    return "\n".join([*head, "From the environment:", *found])
