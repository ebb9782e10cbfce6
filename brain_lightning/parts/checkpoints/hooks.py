"""Which function saves, loads or transfers an object: marks on methods and a registry by class.

A marked method carries SpeechBrain's own attribute (``_speechbrain_saver`` and so on), so a class
marked with either library's decorators can be registered with either.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch

from brain_lightning.parts.checkpoints.main_process_hooks import on_main_process
from brain_lightning.parts.checkpoints.torch_hooks import (
    torch_parameter_transfer,
    torch_recovery,
    torch_save,
    torch_save_once_per_node,
)

Hook = Callable[..., Any]
Registry = MutableMapping[type, Hook]
Method = TypeVar("Method", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)

SAVER_MARK = "_speechbrain_saver"
LOADER_MARK = "_speechbrain_loader"
TRANSFER_MARK = "_speechbrain_transfer"

OTHER_LIBRARY = "speechbrain.utils.checkpoints"
"""The module that keeps SpeechBrain's registry. It is looked up when loaded, never imported."""

DEFAULT_SAVE_HOOKS: dict[type, Hook] = {
    torch.nn.Module: torch_save,
    torch.optim.Optimizer: torch_save,
    torch.optim.lr_scheduler.ReduceLROnPlateau: torch_save,
    torch.optim.lr_scheduler.LRScheduler: torch_save,
    torch.optim.lr_scheduler.CyclicLR: torch_save,  # else SpeechBrain's workaround is found
    torch.amp.GradScaler: torch_save,
}
"""Class -> function ``(instance, path)`` that saves an instance."""

DEFAULT_LOAD_HOOKS: dict[type, Hook] = {
    torch.nn.Module: torch_recovery,
    torch.optim.Optimizer: torch_recovery,
    torch.optim.lr_scheduler.ReduceLROnPlateau: torch_recovery,
    torch.optim.lr_scheduler.LRScheduler: torch_recovery,
    torch.optim.lr_scheduler.CyclicLR: torch_recovery,
    torch.amp.GradScaler: torch_recovery,
}
"""Class -> function ``(instance, path, end_of_epoch)`` that loads into an instance."""

DEFAULT_TRANSFER_HOOKS: dict[type, Hook] = {torch.nn.Module: torch_parameter_transfer}
"""Class -> function ``(instance, path)`` that loads pretrained parameters into an instance."""

_registered: dict[type, bool] = {}
"""Classes that were registered here, and whether only the main process saves them."""


def mark_as_saver(method: Method) -> Method:
    """Mark a method ``(self, path)`` as the one that saves its object to a file.

    The class must also be decorated with :func:`register_checkpoint_hooks`.

    Raises:
        TypeError: the method cannot be called with one path.
    """
    _require_signature(method, "saver", "(self, path)", Path("path"))
    setattr(method, SAVER_MARK, True)
    return method


def mark_as_loader(method: Method) -> Method:
    """Mark a method ``(self, path, end_of_epoch)`` as the one that loads its object from a file.

    The class must also be decorated with :func:`register_checkpoint_hooks`.

    Raises:
        TypeError: the method cannot be called with a path and a bool.
    """
    _require_signature(method, "loader", "(self, path, end_of_epoch)", Path("path"), True)
    setattr(method, LOADER_MARK, True)
    return method


def mark_as_transfer(method: Method) -> Method:
    """Mark a method ``(self, path)`` as the one that takes over pretrained parameters.

    A Pretrainer prefers it to the loader. The class must also be decorated with
    :func:`register_checkpoint_hooks`.

    Raises:
        TypeError: the method cannot be called with one path.
    """
    _require_signature(method, "transfer hook", "(self, path)", Path("path"))
    setattr(method, TRANSFER_MARK, True)
    return method


def _require_signature(method: Hook, role: str, expected: str, *arguments: object) -> None:
    try:
        inspect.signature(method).bind(object(), *arguments)
    except TypeError as error:
        name = getattr(method, "__qualname__", repr(method))
        raise TypeError(
            f"The checkpoint {role} {name} must have the signature {expected}, "
            f"but it is {inspect.signature(method)}."
        ) from error


def register_checkpoint_hooks(cls: Class, save_on_main_only: bool = True) -> Class:
    """Class decorator: use the marked methods of ``cls`` for its instances and subclasses.

    Only methods defined in ``cls`` itself are taken. With ``save_on_main_only`` false the saver
    runs on every process, for objects that are gathered from all of them first.
    """
    for method in list(vars(cls).values()):
        if hasattr(method, SAVER_MARK):
            DEFAULT_SAVE_HOOKS[cls] = on_main_process(method) if save_on_main_only else method
        if hasattr(method, LOADER_MARK):
            DEFAULT_LOAD_HOOKS[cls] = method
        if hasattr(method, TRANSFER_MARK):
            DEFAULT_TRANSFER_HOOKS[cls] = method
    _registered[cls] = save_on_main_only
    other = sys.modules.get(OTHER_LIBRARY)
    if other is not None:
        _register_there(other, cls, save_on_main_only)
    return cls


def register_with(module: ModuleType) -> None:
    """Make every class registered here known to a module with SpeechBrain's registry too.

    ``module`` is ``speechbrain.utils.checkpoints``. Classes registered after that module was
    imported are known there without this call.
    """
    for cls, save_on_main_only in _registered.items():
        _register_there(module, cls, save_on_main_only)


def register_with_loaded_speechbrain() -> bool:
    """:func:`register_with` SpeechBrain when something has imported it; whether that is so."""
    other = sys.modules.get(OTHER_LIBRARY)
    if other is None:
        return False
    register_with(other)
    return True


def _register_there(module: ModuleType, cls: type, save_on_main_only: bool) -> None:
    # Missing while SpeechBrain itself is still being imported.
    register = getattr(module, "register_checkpoint_hooks", None)
    if register is not None and register is not register_checkpoint_hooks:
        register(cls, save_on_main_only)


def get_default_hook(obj: object, default_hooks: Registry) -> Hook | None:
    """Find the hook of the first class of ``obj``, along its inheritance order, that has one.

    Where ``default_hooks`` is one of the three registries above, classes that are registered with
    a loaded SpeechBrain only are found as well. Returns None when there is no hook.
    """
    elsewhere = _same_registry_elsewhere(default_hooks)
    for cls in inspect.getmro(type(obj)):
        if cls in default_hooks:
            return default_hooks[cls]
        if cls in elsewhere:
            return _without_their_process_guard(cls, elsewhere[cls])
    return None


def _same_registry_elsewhere(default_hooks: Registry) -> Registry:
    other = sys.modules.get(OTHER_LIBRARY)
    names = ("DEFAULT_SAVE_HOOKS", "DEFAULT_LOAD_HOOKS", "DEFAULT_TRANSFER_HOOKS")
    for name in names:
        if globals()[name] is default_hooks:
            registry: Registry = getattr(other, name, {})
            return registry
    return {}


def _without_their_process_guard(cls: type, hook: Hook) -> Hook:
    # SpeechBrain's main_process_only broadcasts unless it knows that it runs on one process only,
    # and it cannot know of our guard around it. So the method itself runs, under our guard.
    method = getattr(hook, "__wrapped__", None)
    is_marked_method = any(method is member for member in vars(cls).values())
    return on_main_process(method) if method is not None and is_marked_method else hook


def is_marked(method: object) -> bool:
    """Whether a method saves, loads or transfers its object."""
    return any(hasattr(method, mark) for mark in (SAVER_MARK, LOADER_MARK, TRANSFER_MARK))


def has_unregistered_marks(obj: object) -> bool:
    """Whether a class of ``obj`` has marked methods although nobody registered it."""
    members = [member for cls in inspect.getmro(type(obj)) for member in vars(cls).values()]
    return any(map(is_marked, members))


def convert_torch_save_hooks_to_once_per_node() -> None:
    """Let the default torch hooks write on each node, for nodes that share no file system."""
    for cls, hook in DEFAULT_SAVE_HOOKS.items():
        if hook is torch_save:
            DEFAULT_SAVE_HOOKS[cls] = torch_save_once_per_node


def _add_sentencepiece() -> None:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        return  # an optional package

    def load(obj: Any, path: str | Path) -> None:
        obj.load(str(path))

    DEFAULT_TRANSFER_HOOKS[SentencePieceProcessor] = load


_add_sentencepiece()
