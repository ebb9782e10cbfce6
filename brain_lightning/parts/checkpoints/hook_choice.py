"""Which hook saves and which loads each recoverable, decided before anything is touched."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from brain_lightning.parts.checkpoints.checkpoint import PARAMFILE_EXT
from brain_lightning.parts.checkpoints.errors import CheckpointError, as_checkpoint_error
from brain_lightning.parts.checkpoints.hooks import (
    DEFAULT_LOAD_HOOKS,
    DEFAULT_SAVE_HOOKS,
    Hook,
    get_default_hook,
    has_unregistered_marks,
)
from brain_lightning.parts.checkpoints.main_process_hooks import needs_other_processes
from brain_lightning.parts.checkpoints.storage_probe import find_write_error


class ChosenHook(NamedTuple):
    """A recoverable with the hook that saves or loads it."""

    name: str
    obj: Any
    hook: Hook

    @property
    def filename(self) -> str:
        """The name of the recoverable's file in a checkpoint."""
        return self.name + PARAMFILE_EXT

    def save(self, folder: Path, target: Path) -> None:
        """Call the save hook with the recoverable's file in ``folder``.

        ``target`` is the checkpoint's folder as the user knows it, for the error message.
        """
        try:
            self.hook(self.obj, folder / self.filename)
        except Exception as error:
            reason = error if isinstance(error, OSError) else find_write_error(folder) or error
            message = f"The recoverable {self.name!r} could not be saved to"
            raise as_checkpoint_error(f"{message} {target / self.filename}", reason) from error

    def load(self, path: Path, end_of_epoch: bool) -> None:
        """Call the load hook with the recoverable's file."""
        try:
            self.hook(self.obj, path, end_of_epoch)
        except Exception as error:
            message = f"The recoverable {self.name!r} could not be loaded from {path}"
            raise as_checkpoint_error(message, error) from error


def choose_save_hooks(
    recoverables: Mapping[str, Any], custom_hooks: Mapping[str, Hook]
) -> list[ChosenHook]:
    """Return the save hook of each recoverable, in their order; a custom hook goes first.

    Raises:
        CheckpointError: there is none for an object.
        ValueError: a name cannot be that of a file.
    """
    for name in recoverables:
        if os.path.basename(name) != name or not name:
            raise ValueError(
                f"The recoverable name {name!r} cannot be the name of a file; leave out slashes."
            )
    return [
        _choose(name, obj, custom_hooks, DEFAULT_SAVE_HOOKS, "save")
        for name, obj in recoverables.items()
    ]


def choose_load_hooks(
    recoverables: Mapping[str, Any], names: Iterable[str], custom_hooks: Mapping[str, Hook]
) -> list[ChosenHook]:
    """Return the load hook of each recoverable in ``names``; a custom hook goes first.

    Raises:
        CheckpointError: there is none for an object.
    """
    return [
        _choose(name, recoverables[name], custom_hooks, DEFAULT_LOAD_HOOKS, "load")
        for name in names
    ]


def _choose(
    name: str,
    obj: Any,
    custom_hooks: Mapping[str, Hook],
    default_hooks: dict[type, Hook],
    verb: str,
) -> ChosenHook:
    hook = custom_hooks[name] if name in custom_hooks else get_default_hook(obj, default_hooks)
    if hook is not None:
        return ChosenHook(name, obj, hook)
    hint = ""
    if has_unregistered_marks(obj):
        hint = " Its class has marked methods but is not decorated with register_checkpoint_hooks."
    raise CheckpointError(
        f"Don't know how to {verb} the recoverable {name!r} of type {type(obj).__name__}.{hint} "
        f"Give it a custom_{verb}_hook, or mark methods of its class with mark_as_saver and "
        "mark_as_loader and decorate the class with register_checkpoint_hooks."
    )


def need_other_processes(hooks: Iterable[ChosenHook]) -> bool:
    """Whether a save with these hooks is more than the main process's business."""
    return any(needs_other_processes(chosen.hook) for chosen in hooks)
