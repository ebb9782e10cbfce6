"""The hooks around a backward pass that a recipe starts itself.

The default ``fit_batch`` goes backward through Lightning, which calls them. A recipe's own
``loss.backward()`` does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from brain_lightning.engine.optimization.hook_listeners import HookListeners

BEFORE_BACKWARD = "on_before_backward"
AFTER_BACKWARD = "on_after_backward"

_BACKWARD: tuple[Callable[..., Any], ...] = (torch.Tensor.backward, torch.autograd.backward)


class BackwardHooks:
    """Calls ``on_before_backward`` and ``on_after_backward`` where somebody listens."""

    def __init__(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        generated: type[pl.LightningModule],
    ) -> None:
        """Find out who listens; the arguments are those of :class:`HookListeners`."""
        self._listeners = HookListeners(
            trainer, module, generated, (BEFORE_BACKWARD, AFTER_BACKWARD)
        )
        self._left_to_lightning = False

    def noticed(self) -> AbstractContextManager[Any]:
        """Notice the backward passes of the block, unless nobody listens."""
        return _Noticing(self) if self._listeners.are_there else nullcontext()

    @contextmanager
    def left_to_lightning(self) -> Iterator[None]:
        """Say nothing about the backward pass of the block: Lightning does."""
        before, self._left_to_lightning = self._left_to_lightning, True
        try:
            yield
        finally:
            self._left_to_lightning = before

    def around(self, backward: Callable[[], Any], loss: torch.Tensor) -> Any:
        """Go backward with the hooks around it."""
        if self._left_to_lightning:
            return backward()
        self._listeners.call(BEFORE_BACKWARD, loss)
        result = backward()
        self._listeners.call(AFTER_BACKWARD)
        return result


class _Noticing(TorchFunctionMode):
    """Sees every call of torch's functions; hands all but the backward passes on as they are."""

    def __init__(self, hooks: BackwardHooks) -> None:
        super().__init__()
        self._hooks = hooks

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if func not in _BACKWARD:
            return func(*args, **given)
        loss: Any = args[0] if args else given.get("tensors")
        if isinstance(loss, (list, tuple)):
            loss = loss[0]
        return self._hooks.around(lambda: func(*args, **given), loss)
