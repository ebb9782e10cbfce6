"""``brain-lightning doctor``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brain_lightning.entry.closed_pipe import ends_with_its_reader
from brain_lightning.entry.doctor.asked_options import (
    CommandLine,
    WrongCommandLineError,
    asked_options,
    parse_command_line,
)
from brain_lightning.entry.doctor.diagnosis import Diagnosis, diagnose
from brain_lightning.entry.doctor.findings import Place, UnreadableFileError
from brain_lightning.entry.doctor.hyperparameter_nodes import read_hyperparameters
from brain_lightning.entry.doctor.json_report import json_report, unreadable_report
from brain_lightning.entry.doctor.source_files import SourceTree
from brain_lightning.entry.doctor.text_report import text_report
from brain_lightning.entry.rank_report import rank_lines, rank_report

HELP = """\
usage: brain-lightning doctor RECIPE.py [HPARAMS.yaml] [OPTIONS] [--json]
       brain-lightning doctor --ranks [--json]

Read a recipe, without importing or running anything of it, and say what it uses of Brain, who will
step its optimizer, which strategies it can use, and what is refused, with file and line.

  RECIPE.py        the recipe; modules beside it that it imports are read as well
  HPARAMS.yaml     its hyperparameters, and the files that they include
  OPTIONS          as for brain-lightning run: --precision bf16 --trainer.strategy fsdp2 ...
  --json           print JSON; its keys are described in brain_lightning/entry/doctor/json_report.py
  --ranks          print what the launcher says about this process, and in which variables

Exit status: 0, 1 when something is refused, 2 when the command line is wrong.
"""


@ends_with_its_reader
def main(arguments: Sequence[str]) -> int:
    """Print the report; returns the exit status."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(HELP, end="")
        return 0
    as_json = "--json" in arguments
    rest = [argument for argument in arguments if argument != "--json"]
    if rest == ["--ranks"]:
        return _report_ranks(as_json)
    if not rest or rest[0].startswith("-"):
        found = f"found {rest[0]}" if rest else "found nothing"
        return _refuse(f"the recipe comes first, then its options; {found} in its place.")
    try:
        given = parse_command_line(rest[1:])
    except WrongCommandLineError as error:
        return _refuse(str(error))
    recipe = Path(rest[0])
    for path, kind in ((recipe, "recipe"), (given.hparams, "file of hyperparameters")):
        if path is not None and not path.is_file():
            return _refuse(f"There is no {kind} {str(path)!r} (looked for at {path.absolute()}).")
    return _report_recipe(recipe, given, as_json)


def _report_recipe(recipe: Path, given: CommandLine, as_json: bool) -> int:
    try:
        diagnosis = _diagnosis(recipe, given)
    except UnreadableFileError as error:
        if as_json:
            names = (str(recipe), None if given.hparams is None else str(given.hparams))
            _print_json(unreadable_report(*names, error.finding))
        else:
            print(f"Refused\n  {error}")
        return 1
    if as_json:
        _print_json(json_report(diagnosis))
    else:
        print(text_report(diagnosis))
    return 1 if diagnosis.refused else 0


def _diagnosis(recipe: Path, given: CommandLine) -> Diagnosis:
    hparams = given.hparams
    try:
        tree = SourceTree(recipe)
        nodes = None if hparams is None else read_hyperparameters(hparams, given.overrides)
        return diagnose(tree, nodes, asked_options(nodes, given.run_opts))
    except RecursionError as error:
        files = recipe.name if hparams is None else f"{recipe.name} or {hparams.name}"
        problem = f"{files} is nested too deeply to be read"
        raise UnreadableFileError(problem, Place(recipe, 1)) from error


def _report_ranks(as_json: bool) -> int:
    try:
        report = rank_report()
    except ValueError as error:
        print(json.dumps({"error": str(error)}) if as_json else error)
        return 1
    if as_json:
        _print_json(report)
    else:
        print(rank_lines(report))
    return 0


def _print_json(report: dict[str, Any]) -> None:
    print(json.dumps(report, indent=2))


def _refuse(problem: str) -> int:
    print(f"{HELP}\nbrain-lightning doctor: error: {problem}", file=sys.stderr)
    return 2
