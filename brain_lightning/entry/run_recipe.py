"""``brain-lightning run``: a SpeechBrain recipe as it stands, with our names in SpeechBrain."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType

from brain_lightning.entry.interop.installation import is_speechbrain_installed
from brain_lightning.entry.interop.replacing import our_names_in_speechbrain
from brain_lightning.entry.missing_hyperparameters import (
    HyperparametersNotFoundError,
    missing_hyperparameters,
)
from brain_lightning.entry.missing_packages import missing_package
from brain_lightning.entry.script_process import prepared_for, run_as_main, script_frames
from brain_lightning.entry.unknown_override import add_hint
from brain_lightning.ground.errors import MissingExtraError
from brain_lightning.ground.launch_detection import detect_launch


class RecipeNotFoundError(FileNotFoundError, ValueError):
    """There is no file to run at the path that was given."""


def run_recipe(recipe: str | os.PathLike[str], arguments: Sequence[str] = ()) -> None:
    """Run a recipe in this process, and leave the process as it was.

    While it runs, SpeechBrain's names are ours (see ``interop.replacements``), and ``sys.argv``,
    ``__main__`` and the import path are as with ``python RECIPE ARGUMENTS``. What the recipe
    raises, ``SystemExit`` too, is raised here.

    Args:
        recipe: the script.
        arguments: its command line: usually the file of hyperparameters, then options.

    Raises:
        RecipeNotFoundError: there is no such file.
        MissingExtraError: the recipe imports SpeechBrain, and it is not installed; or makes a
            logger or callback of Lightning's whose package an extra brings.
    """
    with _recipe_process(recipe, arguments):
        _run(recipe)


def run_recipe_to_the_end_of_the_process(
    recipe: str | os.PathLike[str], arguments: Sequence[str]
) -> None:
    """Run a recipe as ``run_recipe`` does, and let the process stay the recipe's.

    What the recipe leaves to the end of the process (exit functions, threads) finds everything in
    place; an exception that nobody catches is reported as from the script alone.

    Raises:
        HyperparametersNotFoundError: the file that is the first argument is not there, and the
            recipe ended with that.
    """
    whole_process = ExitStack()
    # Registered before any exit function of the recipe, so called after them.
    atexit.register(whole_process.close)
    whole_process.enter_context(_recipe_process(recipe, arguments))
    try:
        _run(recipe)
    except BaseException as error:
        sentence = _what_is_missing(error, os.fspath(recipe), arguments)
        if sentence is not None:
            raise HyperparametersNotFoundError(sentence) from error
        # At the last moment, because recipes set a hook of their own.
        sys.excepthook = _HookWithoutOurFrames()
        raise


def _what_is_missing(error: BaseException, recipe: str, arguments: Sequence[str]) -> str | None:
    if sys.excepthook is not sys.__excepthook__ or detect_launch() is not None:
        return None  # the recipe, or the other processes, are to hear of the error itself
    return missing_hyperparameters(error, recipe, arguments)


@contextmanager
def _recipe_process(recipe: str | os.PathLike[str], arguments: Sequence[str]) -> Iterator[None]:
    if not os.path.isfile(recipe):
        raise RecipeNotFoundError(
            f"There is no recipe {os.fspath(recipe)!r} (looked for at {os.path.abspath(recipe)})."
        )
    with ExitStack() as stack:
        if is_speechbrain_installed():
            stack.enter_context(our_names_in_speechbrain())
        stack.enter_context(prepared_for(os.fspath(recipe), arguments))
        yield


def _run(recipe: str | os.PathLike[str]) -> None:
    try:
        run_as_main(os.fspath(recipe))
    except KeyError as error:
        add_hint(error)
        raise
    except ModuleNotFoundError as error:
        _name_the_extra(error)
        if (error.name or "").partition(".")[0] != "speechbrain" or is_speechbrain_installed():
            raise
        wanted = f"The recipe {os.fspath(recipe)}"
        raise MissingExtraError(wanted, "speechbrain") from error


def _name_the_extra(error: ModuleNotFoundError) -> None:
    """Say how to install what a logger or callback of Lightning's needs that the recipe makes."""
    found = missing_package(error)
    if found is None or isinstance(error, MissingExtraError):
        return
    wanted, package, is_extra = found
    if is_extra:
        raise MissingExtraError(wanted, package) from error
    raise ImportError(
        f"{wanted} needs a package that is not installed: install it with `pip install {package}`."
    ) from error


class _HookWithoutOurFrames:
    """A ``sys.excepthook`` that shows a traceback from the recipe on."""

    def __init__(self) -> None:
        self._hook = sys.excepthook

    def __call__(
        self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        self._hook(kind, error.with_traceback(script_frames(traceback)), script_frames(traceback))
