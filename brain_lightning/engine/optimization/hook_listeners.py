"""Who listens to a hook that Lightning calls from its own wrappers, and calling them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import lightning.pytorch as pl

from brain_lightning.engine.trainer.trainer_callbacks import callbacks_of

_innermost: ContextVar[pl.Trainer | None] = ContextVar("innermost", default=None)


@contextmanager
def heard_only_in(trainer: pl.Trainer) -> Iterator[None]:
    """Let nobody hear of the block but those who listen in this Trainer's run.

    A run inside of another one goes backward and steps while the outer run notices such things.
    """
    token = _innermost.set(trainer)
    try:
        yield
    finally:
        _innermost.reset(token)


class HookListeners:
    """The callbacks, and the module, that override some hooks.

    Where nobody does, the engine need not notice when such a hook would be due.
    """

    def __init__(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        generated: type[pl.LightningModule],
        names: Iterable[str],
    ) -> None:
        """Find those that override one of ``names``.

        Args:
            trainer: whose callbacks may listen.
            module: may be of a class that the user derived from ``generated``.
            generated: the class of modules that are generated from a Brain.
            names: of hooks.
        """
        self._trainer = trainer
        self._module = module
        self._callbacks = {
            name: [each for each in callbacks_of(trainer) if _overrides(each, pl.Callback, name)]
            for name in names
        }
        self._module_listens = {
            name: getattr(type(module), name) is not getattr(generated, name)
            for name in self._callbacks
        }

    @property
    def are_there(self) -> bool:
        """Whether anybody overrides one of the hooks."""
        return any(self._callbacks.values()) or any(self._module_listens.values())

    def call(self, name: str, *arguments: Any) -> None:
        """Call the hook of all callbacks, then the module's, as Lightning does."""
        if _innermost.get() not in (None, self._trainer):
            return
        for callback in self._callbacks[name]:
            getattr(callback, name)(self._trainer, self._module, *arguments)
        if self._module_listens[name]:
            getattr(self._module, name)(*arguments)


def _overrides(listener: object, base: type, name: str) -> bool:
    method = getattr(listener, name)
    return getattr(method, "__func__", method) is not getattr(base, name)
