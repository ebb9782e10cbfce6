"""Making sharded states whole for a save: every process gives its part, whoever calls the save.

Gathering needs all processes, while a save is the main one's business, and some recipes let it call
the save alone. Where the engine opens :func:`others_at_hand`, as around ``on_stage_end``, that
works: what the main process does is told to the others when they call a save themselves, before
they wait for the main process in any other way, and when they leave the section. Elsewhere all
processes have to call the save; if they do not, it fails, after a time limit.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from brain_lightning.ground.process_group import get_timeout
from brain_lightning.ground.ranks import (
    called_before_waiting,
    ddp_prevent_block,
    if_main_process,
    is_distributed_initialized,
)
from brain_lightning.parts.checkpoints.errors import CheckpointError
from brain_lightning.parts.checkpoints.hook_choice import ChosenHook
from brain_lightning.parts.checkpoints.main_process_hooks import (
    needs_other_processes,
    on_main_process,
)
from brain_lightning.parts.checkpoints.sharded_states import is_sharded, whole_state
from brain_lightning.parts.checkpoints.snapshot import writes_state_only

PATIENCE = datetime.timedelta(minutes=10)
"""How long a process that gathers waits for the others to come, at most."""

_ENDED, _PASS, _GATHER, _GATHER_ELSEWHERE = range(4)
"""What the main process tells: it left the section; it waits itself; it gathers, here or there."""


class Saving(Protocol):
    """What is needed of a Checkpointer."""

    def choose_save_hooks(self) -> list[ChosenHook]:
        """Return what will save each recoverable."""


@on_main_process
def write_gathered(state: Any, path: Any) -> None:
    """Write a state that was gathered before."""
    torch.save(state, path)


class _Section:
    """A moment in which processes help the main one, all of them having entered together."""

    def __init__(self, checkpointer: Saving) -> None:
        self.checkpointer = checkpointer
        self._main_has_left = False
        self._passes_heard = 0

    @staticmethod
    def _tell(message: int) -> None:
        torch.distributed.broadcast(torch.tensor([message]), src=0, group=_group())

    def _hear(self) -> int:
        """Wait for the main process to say what it does."""
        if self._main_has_left:
            return _ENDED
        box = torch.zeros(1, dtype=torch.int64)
        torch.distributed.broadcast(box, src=0, group=_group())
        self._main_has_left = int(box) == _ENDED
        return int(box)

    def _help(self, message: int) -> None:
        """Give this process's part of what the main process gathers."""
        if message == _GATHER:
            _gather(self.checkpointer.choose_save_hooks())
        if message == _GATHER_ELSEWHERE:
            raise CheckpointError(
                "The main process alone saves with another Checkpointer than the Brain's, which "
                "needs the parts that this process has. Call the save on all processes."
            )

    def before_waiting(self) -> None:
        """Be at hand until the main process, too, waits for the others."""
        if if_main_process():
            self._tell(_PASS)
        elif self._passes_heard:
            self._passes_heard -= 1
        else:
            while (message := self._hear()) not in (_PASS, _ENDED):
                self._help(message)

    def end(self) -> None:
        """Be at hand until the main process leaves the section."""
        if if_main_process():
            self._tell(_ENDED)
        else:
            while (message := self._hear()) != _ENDED:
                self._help(message)

    def meet(self, checkpointer: Saving) -> bool:
        """Come to a save; return whether the main process is there, too."""
        wanted = _GATHER if checkpointer is self.checkpointer else _GATHER_ELSEWHERE
        if if_main_process():
            self._tell(wanted)
            return True
        while (message := self._hear()) not in (_PASS, _ENDED):
            if message == wanted:
                return True
            self._help(message)
        self._passes_heard += message == _PASS
        return False


_sections: list[_Section] = []
_own_group: tuple[object, Any] | None = None


def prepare_gathering() -> None:
    """Make the group in which the processes talk; all call this together."""
    global _own_group
    world = torch.distributed.group.WORLD
    if _own_group is None or _own_group[0] is not world:
        # A group of its own: what is said in it is never taken for something else.
        group = torch.distributed.new_group(backend="gloo", timeout=get_timeout())
        _own_group = (world, group)


def _group() -> Any:
    assert _own_group is not None
    return _own_group[1]


@contextmanager
def others_at_hand(checkpointer: Saving | None) -> Iterator[None]:
    """Let the main process save alone within, although others have parts of what is saved.

    All processes enter together. Those that are at the end earlier wait there, as far as
    recoverables of ``checkpointer`` are sharded.
    """
    if checkpointer is None or ddp_prevent_block() or not _has_sharded(checkpointer):
        yield
        return
    prepare_gathering()
    section = _Section(checkpointer)
    _sections.append(section)
    try:
        with called_before_waiting(section.before_waiting):
            yield
    finally:
        _sections.remove(section)
    section.end()


def _has_sharded(checkpointer: Saving) -> bool:
    recoverables = getattr(checkpointer, "recoverables", {})
    return any(is_sharded(each) for each in recoverables.values())


def gathered(hooks: Sequence[ChosenHook], checkpointer: Saving) -> list[ChosenHook] | None:
    """Return the hooks, those of sharded recoverables with states that are whole already.

    Args:
        hooks: what saves each recoverable.
        checkpointer: whose save it is.

    Returns:
        None where the main process does not save, so that there is nothing to do.

    Raises:
        CheckpointError: the other processes do not take part, or a recoverable saves itself.
    """
    if not is_distributed_initialized() or not any(is_sharded(each.obj) for each in hooks):
        return list(hooks)
    if not _sections:
        _require_all(hooks)
    elif not _sections[-1].meet(checkpointer):
        return None
    return _gather(hooks)


def _require_all(hooks: Sequence[ChosenHook]) -> None:
    names = ", ".join(repr(each.name) for each in hooks if is_sharded(each.obj))
    if ddp_prevent_block():
        raise CheckpointError(
            f"{names} cannot be saved by one process alone, because each has a part of it (FSDP2). "
            "Call the save on all processes, or within on_stage_end."
        )
    prepare_gathering()


def _gather(hooks: Sequence[ChosenHook]) -> list[ChosenHook]:
    names = [each.name for each in hooks if is_sharded(each.obj)]
    limit = min(get_timeout(), PATIENCE)
    try:
        torch.distributed.monitored_barrier(group=_group(), timeout=limit)
    except RuntimeError as error:
        raise CheckpointError(
            f"{', '.join(map(repr, names))} could not be saved, because each process has a part of "
            f"it (FSDP2) and not all came to the save within {limit.total_seconds():.0f} s. Call "
            f"the save on all processes, not under if_main_process(). torch says: {error}"
        ) from error
    return [_with_whole_state(each) if is_sharded(each.obj) else each for each in hooks]


def _with_whole_state(chosen: ChosenHook) -> ChosenHook:
    reason = why_not_gathered(chosen)
    if reason is not None:
        raise CheckpointError(reason)
    if not writes_state_only(chosen.hook):
        return chosen  # it runs on all processes, and may gather what it wants
    return ChosenHook(chosen.name, whole_state(chosen.obj.state_dict()), write_gathered)


def why_not_gathered(chosen: ChosenHook) -> str | None:
    """Return why a sharded recoverable cannot be saved, or None.

    Its hook must be the default one, or run on all processes, as a ``custom_save_hook`` does.
    """
    if not is_sharded(chosen.obj) or writes_state_only(chosen.hook):
        return None
    if needs_other_processes(chosen.hook):
        return None
    return (
        f"The recoverable {chosen.name!r} has a save hook of its own, which would write the main "
        "process's part only: its parameters are sharded (FSDP2). Save it with the default hook, "
        "or with a custom_save_hook that gathers."
    )


def is_gathered(chosen: ChosenHook) -> bool:
    """Whether a hook has its state already, on the CPU, and only has to write it."""
    return chosen.hook is write_gathered
