"""Save hooks that only the main process runs, and that can be told from the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from brain_lightning.ground.ranks import main_process_only

_ATTRIBUTE = "_runs_on_main_process_only"


def on_main_process(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Let only the main process run a save hook.

    A save in which all hooks are like this needs no other process at all.
    """
    guarded: Callable[..., Any] = main_process_only(hook)
    setattr(guarded, _ATTRIBUTE, True)
    return guarded


def needs_other_processes(hook: Callable[..., Any]) -> bool:
    """Whether other processes than the main one may have a part in a save hook."""
    return not getattr(hook, _ATTRIBUTE, False)


def as_on_main_process(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return what the main process runs of a hook, for one that saves for a machine of its own."""
    return hook if needs_other_processes(hook) else hook.__wrapped__  # type: ignore[attr-defined]
