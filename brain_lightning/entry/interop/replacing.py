"""Putting our names in the place of SpeechBrain's, everywhere, and back."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from brain_lightning.entry.interop.installation import installed_option_defaults
from brain_lightning.entry.interop.ours import object_at
from brain_lightning.entry.interop.replacements import REPLACED
from brain_lightning.parts.checkpoints.hooks import (
    LOADER_MARK,
    SAVER_MARK,
    TRANSFER_MARK,
    register_checkpoint_hooks,
)
from brain_lightning.parts.options.replaced_defaults import replaced_defaults

Namespace = MutableMapping[str, Any]

_CHECKPOINTS = "speechbrain.utils.checkpoints"
_REGISTRIES = ("DEFAULT_SAVE_HOOKS", "DEFAULT_LOAD_HOOKS", "DEFAULT_TRANSFER_HOOKS")
_MARKS = (SAVER_MARK, LOADER_MARK, TRANSFER_MARK)


class _Pair(NamedTuple):
    """An object of SpeechBrain's and ours in its place."""

    name: str
    theirs: Any
    ours: Any


class _Change(NamedTuple):
    """One name in one module that was changed."""

    namespace: Namespace
    name: str
    before: Any
    after: Any


@contextmanager
def our_names_in_speechbrain() -> Iterator[None]:
    """Let every name of the table be ours, in all modules, loaded and yet to be loaded.

    SpeechBrain must be installed. What a module has imported from SpeechBrain earlier, under
    whatever name, is replaced in it too. The option defaults of the installed SpeechBrain hold
    meanwhile. Afterwards everything is as it was.
    """
    defaults = installed_option_defaults()
    pairs = _replaced_pairs()
    registries = {name: vars(sys.modules[_CHECKPOINTS])[name] for name in _REGISTRIES}
    known = {id(module) for module in list(sys.modules.values())}
    changes = _replace_in_loaded_modules(pairs)
    try:
        _take_over_registrations(registries)
        with replaced_defaults(defaults):
            yield
    finally:
        _undo(changes)
        _undo_in_modules_loaded_since(known, pairs)


def _replaced_pairs() -> list[_Pair]:
    pairs = []
    for module_name, names in REPLACED.items():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name != module_name:
                raise
            continue  # another version of SpeechBrain has no such module
        for name, place in names.items():
            if name in vars(module):
                pairs.append(_Pair(name, vars(module)[name], object_at(place)))
    return pairs


def _replace_in_loaded_modules(pairs: list[_Pair]) -> list[_Change]:
    """Replace by identity: a module may have imported a thing under another name."""
    ours = {id(pair.theirs): pair.ours for pair in pairs}
    changes = [
        _Change(namespace, name, value, ours[id(value)])
        for namespace in _namespaces()
        for name, value in list(namespace.items())
        if id(value) in ours
    ]
    for change in changes:
        change.namespace[change.name] = change.after
    return changes


def _namespaces() -> list[Namespace]:
    """Return those of all loaded modules but ours; ``vars`` wakes no lazy module."""
    return [
        vars(module)
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and name.partition(".")[0] != "brain_lightning"
    ]


def _undo(changes: list[_Change]) -> None:
    for change in changes:
        if change.namespace.get(change.name) is change.after:
            change.namespace[change.name] = change.before


def _undo_in_modules_loaded_since(known: set[int], pairs: list[_Pair]) -> None:
    """Give SpeechBrain's modules that were imported meanwhile what they would have imported."""
    theirs = {(id(pair.ours), pair.name): pair.theirs for pair in pairs}
    for module_name, module in list(sys.modules.items()):
        if id(module) in known or module_name.partition(".")[0] != "speechbrain":
            continue
        for name, value in list(vars(module).items()):
            if (id(value), name) in theirs:
                vars(module)[name] = theirs[id(value), name]


def _take_over_registrations(registries: dict[str, dict[type, Any]]) -> None:
    """Register with ours the classes that SpeechBrain's modules registered when imported."""
    for cls, hook in registries["DEFAULT_LOAD_HOOKS"].items():
        if any(hasattr(member, mark) for member in vars(cls).values() for mark in _MARKS):
            saver = registries["DEFAULT_SAVE_HOOKS"].get(cls, hook)
            # SpeechBrain wraps a saver that is for the main process.
            register_checkpoint_hooks(cls, save_on_main_only=hasattr(saver, "__wrapped__"))
    for name, registry in registries.items():
        ours: dict[type, Any] = vars(sys.modules[_CHECKPOINTS])[name]
        for cls, hook in registry.items():
            ours.setdefault(cls, hook)
