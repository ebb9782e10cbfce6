"""``brain-lightning run``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from brain_lightning.entry.closed_pipe import show
from brain_lightning.entry.launch import start_again_if_asked
from brain_lightning.entry.missing_hyperparameters import HyperparametersNotFoundError
from brain_lightning.entry.run_recipe import (
    RecipeNotFoundError,
    run_recipe_to_the_end_of_the_process,
)
from brain_lightning.ground.errors import OptionError

HELP = """\
usage: brain-lightning run RECIPE.py HPARAMS.yaml [OPTIONS]

Run a SpeechBrain recipe as it stands: as `python RECIPE.py HPARAMS.yaml [OPTIONS]`, but with
brain_lightning's Brain, checkpoints and loaders wherever the recipe names SpeechBrain's.

  RECIPE.py        the recipe; what follows it is the recipe's own command line
  HPARAMS.yaml     its hyperparameters
  OPTIONS          run options such as --device cpu, hyperparameters such as --lr 0.1, and
                   --trainer.KEY VALUE for an argument of lightning.Trainer

All run options: brain-lightning run RECIPE.py --help
Several processes on this machine: --trainer.devices 2. On several machines, on each of them:
  torchrun --nnodes=2 ... -m brain_lightning run RECIPE.py HPARAMS.yaml
"""


def main(arguments: Sequence[str]) -> int:
    """Run the recipe that the command line names; returns an exit status, 0, 1 or 2.

    What the recipe raises goes on to the interpreter, whose exit status is as with ``python``.
    """
    if arguments and arguments[0] in ("-h", "--help"):
        return show(HELP.rstrip())
    if not arguments or arguments[0].startswith("-"):
        found = f"found the option {arguments[0]}" if arguments else "found nothing"
        return _refuse(f"the recipe comes first, then its options; {found} in its place.")
    try:
        start_again_if_asked(arguments)
    except (OptionError, ImportError) as error:
        return _refuse(str(error))
    try:
        run_recipe_to_the_end_of_the_process(arguments[0], arguments[1:])
    except RecipeNotFoundError as error:
        return _refuse(str(error))
    except HyperparametersNotFoundError as error:
        print(f"brain-lightning run: error: {error}", file=sys.stderr)
        return 1  # as the recipe's own error
    return 0


def _refuse(problem: str) -> int:
    print(f"{HELP}\nbrain-lightning run: error: {problem}", file=sys.stderr)
    return 2
