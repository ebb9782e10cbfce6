"""``brain-lightning convert``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from brain_lightning.entry.closed_pipe import ends_with_its_reader

HELP = """\
usage: brain-lightning convert SOURCE TARGET
       brain-lightning convert --list PATH

Convert a checkpoint between SpeechBrain's format and Lightning's, without its recipe.

  SOURCE TARGET    save/CKPT+NAME FILE.ckpt     a checkpoint folder to a .ckpt file, to be resumed
                                                from with fit(ckpt_path="FILE.ckpt")
                   FILE.ckpt save/CKPT+NAME     a .ckpt file of a Brain to a checkpoint folder, to
                                                be recovered by a Checkpointer, SpeechBrain's too
                   SOURCE stays as it is; TARGET must not exist.
  --list PATH      say what is in a checkpoint folder, in all those of a folder, or in a .ckpt file

Damaged checkpoints are refused, and no code in them is run.
"""


@ends_with_its_reader
def main(arguments: Sequence[str]) -> int:
    """Convert or list; returns an exit status, 0, 1 (not done) or 2 (wrong command line)."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    listing = bool(arguments) and arguments[0] == "--list"
    paths = arguments[1:] if listing else arguments
    options = [argument for argument in paths if argument.startswith("-")]
    if options:
        return _refuse_usage(f"there is no option {options[0]}.")
    if len(paths) != (1 if listing else 2):
        wanted = "one path after --list" if listing else "a source and a target"
        return _refuse_usage(
            f"give {wanted}; paths given: {len(paths)}. "
            "To see what is in a checkpoint: --list PATH."
        )
    try:
        _run([Path(path) for path in paths])
    except BrokenPipeError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        print(f"brain-lightning convert: error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(paths: Sequence[Path]) -> None:
    # Imported here, so that help and mistakes do not wait for torch.
    from brain_lightning.entry.checkpoint_listing import list_checkpoint
    from brain_lightning.entry.conversion import convert

    if len(paths) == 1:
        for line in list_checkpoint(paths[0]):
            print(line)
    else:
        convert(*paths)
        print(f"{paths[1]} is converted from {paths[0]}")


def _refuse_usage(problem: str) -> int:
    print(f"{HELP}\nbrain-lightning convert: error: {problem}", file=sys.stderr)
    return 2
