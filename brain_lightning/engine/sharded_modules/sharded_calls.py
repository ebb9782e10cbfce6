"""Calls of a sharded module that are not its forward pass: its other methods, and its parts.

FSDP2 gathers parameters around ``module(...)`` only. Recipes also call ``module.encode(...)`` or
``module.decoder(...)``; without more, these would compute with one process's part.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any

import torch

from brain_lightning.engine.sharded_modules.buffer_exchange import BufferExchange
from brain_lightning.ground.ranks import ddp_prevent_block
from brain_lightning.parts.checkpoints.hooks import is_marked

_CALL = "_call_gathered"
_INSIDE = "_calls_in_progress"
_OF_EVERY_MODULE = frozenset(dir(torch.nn.Module))


def gather_for_calls(root: torch.nn.Module) -> None:
    """Gather the parameters of a sharded module for any call of it or of one of its parts.

    Public methods and ``forward`` of each part that are defined outside of torch are called as part
    of a forward pass of ``root``, unless one is in progress. Where one process runs something alone
    (``run_on_main``), they are called as they are.
    """
    from torch.distributed.fsdp import register_fsdp_forward_method

    inside = root.__dict__[_INSIDE] = _Inside(BufferExchange(root))
    # Before FSDP2's own hook and after it.
    root.register_forward_pre_hook(inside.enter, prepend=True)
    root.register_forward_hook(inside.leave, always_call=True)
    root.__dict__[_CALL] = MethodType(_call, root)
    register_fsdp_forward_method(root, _CALL)
    for part in _own_parts(root):
        for name, method in _methods(part):
            part.__dict__[name] = _gathering(root, inside, method)
    if not hasattr(root, "module"):
        # Recipes unwrap DDP by this name.
        root.__dict__["module"] = root


def settle(root: Any) -> None:
    """Have FSDP2 know ``root`` as the outermost one before a part of it is called by itself."""
    from torch.distributed.fsdp import FSDPModule

    if any(part is not root and isinstance(part, FSDPModule) for part in root.modules()):
        getattr(root, _CALL)(_nothing)


def _nothing() -> None:
    """Do nothing."""


def _call(self: torch.nn.Module, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


class _Inside:
    """Counts the forward passes of one module that are in progress: it may call itself."""

    def __init__(self, buffers: BufferExchange) -> None:
        self._depth = 0
        self._buffers = buffers
        self.count = 0

    def __bool__(self) -> bool:
        return self._depth > 0

    def enter(self, *called: object) -> None:
        self._depth += 1  # first: ``leave`` is called whatever happens here
        if ddp_prevent_block():
            raise RuntimeError(
                "A sharded module (strategy fsdp2) was called by one process alone, as in "
                "run_on_main, and every process has a part of it. Call it on all processes."
            )
        if self._depth == 1:
            self.count += 1
            self._buffers.before_forward()

    def leave(self, *called: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._buffers.after_forward()


class CallCounts:
    """Counts how often each sharded module is called, in the same order in all processes."""

    def __init__(self, modules: torch.nn.Module) -> None:
        """Begin with no calls."""
        found = (vars(each).get(_INSIDE) for each in modules.modules())
        self._counters: list[_Inside] = [each for each in found if each is not None]
        self._before = self._counts()

    def _counts(self) -> list[int]:
        return [each.count for each in self._counters]

    def since_last(self) -> list[int]:
        """Return the number of calls of each since this was asked last."""
        before, self._before = self._before, self._counts()
        return [now - then for now, then in zip(self._before, before, strict=True)]


def _own_parts(root: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Yield the module and its parts, without those that are sharded as an entry of their own."""
    yield root
    for child in root.children():
        if _CALL not in vars(child):
            yield from _own_parts(child)


def _methods(part: torch.nn.Module) -> list[tuple[str, Callable[..., Any]]]:
    """Return what is called from outside: forward, and public methods that are not torch's own."""
    kinds = [kind for kind in type(part).__mro__ if issubclass(kind, torch.nn.Module)]
    own = [kind for kind in kinds if kind.__module__.partition(".")[0] != "torch"]
    names = {name for kind in own for name in vars(kind) if not name.startswith("_")}
    found: list[tuple[str, Callable[..., Any]]] = []
    for name in sorted((names - _OF_EVERY_MODULE) | {"forward"}):
        member = inspect.getattr_static(type(part), name)
        # A saver runs on the main process only.
        if isinstance(member, FunctionType) and not is_marked(member) and name not in vars(part):
            found.append((name, MethodType(member, part)))
    return found


def _gathering(
    root: torch.nn.Module, inside: _Inside, method: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(method)
    def gathered(*args: Any, **kwargs: Any) -> Any:
        if inside or ddp_prevent_block():
            return method(*args, **kwargs)
        inside.enter()
        try:
            return getattr(root, _CALL)(method, *args, **kwargs)
        finally:
            inside.leave()

    return gathered
