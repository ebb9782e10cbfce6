"""Saving a checkpoint while training goes on: a snapshot now, the writing beside."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.ranks import alone, if_main_process
from brain_lightning.parts.checkpoints.checkpoint import PARAMFILE_EXT, ckpt_recency
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.draft import CheckpointDraft
from brain_lightning.parts.checkpoints.gathering import gathered, is_gathered
from brain_lightning.parts.checkpoints.hook_choice import (
    ChosenHook,
    need_other_processes,
)
from brain_lightning.parts.checkpoints.resume_file import SUFFIX, write_noted, written_later
from brain_lightning.parts.checkpoints.selection import (
    ImportanceKey,
    Predicate,
    check_number_to_keep,
)
from brain_lightning.parts.checkpoints.sharded_states import is_sharded
from brain_lightning.parts.checkpoints.snapshot import SnapshotBuffers, writes_state_only

logger = get_logger(__name__)


class BackgroundSaver:
    """Saves a Checkpointer's checkpoints without letting training wait for the disk.

    Its two methods have the arguments of the Checkpointer's own. When they return, the states are
    copied and what has save hooks of its own is written; a thread does the rest. The moments of
    optimizers, which only their steps change, are copied by the thread as well; a step that comes
    before it is done waits for it. One checkpoint at
    most is being written: the next save, and anything else that is done with the Checkpointer,
    waits for it first, and raises the error if it failed. Call :meth:`wait` at the end.

    The copies take as much memory as the states, and are kept from one save to the next. Where
    other processes have a part in the save, it is made at once, as the Checkpointer does.
    """

    def __init__(self, checkpointer: Checkpointer) -> None:
        """Save with the recoverables, hooks and folder of ``checkpointer``."""
        self.checkpointer = checkpointer
        self._buffers = SnapshotBuffers()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._copied = threading.Event()
        self._guards: list[RemovableHandle] = []
        checkpointer.call_before_access(self.wait)

    @property
    def is_writing(self) -> bool:
        """Whether a checkpoint is being written right now."""
        return self._thread is not None and self._thread.is_alive()

    def save_checkpoint(
        self,
        meta: Mapping[str, Any] | None = None,
        end_of_epoch: bool = True,
        name: str | None = None,
        verbosity: int = logging.INFO,
    ) -> None:
        """Save a checkpoint; see :meth:`Checkpointer.save_checkpoint`."""
        self._save(meta, end_of_epoch, name, verbosity, then=lambda: None)

    def save_and_keep_only(
        self,
        meta: Mapping[str, Any] | None = None,
        end_of_epoch: bool = True,
        name: str | None = None,
        num_to_keep: int = 1,
        keep_recent: bool = True,
        importance_keys: Iterable[ImportanceKey] = (),
        max_keys: Iterable[str] | None = None,
        min_keys: Iterable[str] | None = None,
        ckpt_predicate: Predicate | None = None,
        verbosity: int = logging.INFO,
    ) -> None:
        """Save a checkpoint, then delete others; see :meth:`Checkpointer.save_and_keep_only`.

        ``importance_keys`` and ``ckpt_predicate`` are called by the thread.
        """
        check_number_to_keep(num_to_keep)
        delete_others = partial(
            self.checkpointer.delete_checkpoints,
            num_to_keep=num_to_keep,
            max_keys=list(max_keys or ()),
            min_keys=list(min_keys or ()),
            importance_keys=[*importance_keys, *([ckpt_recency] if keep_recent else [])],
            ckpt_predicate=ckpt_predicate,
            verbosity=verbosity,
        )
        self._save(meta, end_of_epoch, name, verbosity, then=delete_others)

    def prepare(self, further: Mapping[str, Any] | None = None) -> None:
        """Get the memory for the snapshots beside training, so that the first save finds it.

        Call it when the recoverables are as large as they will be: after an optimizer's first
        step. Where there is not enough memory, nothing is kept; the save says so.

        Args:
            further: file name -> what is noted for it in a save (``write_resume_file``), as far as
                it is large. Its tensors are looked at for their sizes only.
        """
        self.wait()
        try:
            states = self._states_to_copy()
        except Exception as error:  # of a recoverable's own; the save meets it again and raises it
            logger.debug("No memory is prepared for snapshots: %s", error)
            return
        if states is None:
            return
        self._thread = threading.Thread(
            target=self._get_memory, args=({**states, **(further or {})},), name="checkpoint memory"
        )
        self._thread.start()

    def _states_to_copy(self) -> dict[str, Any] | None:
        """Return the states of which saves take snapshots; None where they take none."""
        hooks = self.checkpointer.choose_save_hooks()
        if not if_main_process() or need_other_processes(hooks):
            return None
        live = [each for each in hooks if writes_state_only(each.hook)]
        if any(is_sharded(each.obj) for each in live):
            return None
        return {each.name: each.obj.state_dict() for each in live}

    def _get_memory(self, states: Mapping[str, Any]) -> None:
        try:
            self._buffers.prepare(states)
        except (MemoryError, RuntimeError) as error:  # torch reports missing memory as the latter
            logger.debug("No memory could be prepared for snapshots: %s", error)
            self._buffers = SnapshotBuffers()

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            CheckpointError: the checkpoint that was being written could not be saved.
        """
        if self._thread is None or self._thread is threading.current_thread():
            return
        self._thread.join()
        self._thread = None
        self._take_off_guards()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> BackgroundSaver:
        """Use it for the block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Wait until nothing is being written."""
        self.wait()

    def _save(
        self,
        meta: Mapping[str, Any] | None,
        end_of_epoch: bool,
        name: str | None,
        verbosity: int,
        then: Callable[[], None],
    ) -> None:
        self.wait()
        hooks = gathered(self.checkpointer.choose_save_hooks(), self.checkpointer)
        if hooks is None:
            return
        if need_other_processes(hooks):
            self.checkpointer.save_with(hooks, meta, end_of_epoch, name, verbosity)
            then()
        elif if_main_process():
            with alone():
                draft = self.checkpointer.open_draft(meta, end_of_epoch, name)
                with draft.dropped_on_error(), written_later() as noted:
                    states = self._save_what_cannot_wait(hooks, draft)
                    gathered_states = {each.name: each.obj for each in hooks if is_gathered(each)}
                    files = {path.name: path for path in noted}
                    write = partial(
                        self._write, draft, hooks, verbosity, then, gathered_states, files
                    )
                    states |= {path.name: state for path, state in noted.items()}
                    self._write_beside(write, states, _guarded_optimizers(hooks))

    @staticmethod
    def _save_what_cannot_wait(hooks: list[ChosenHook], draft: CheckpointDraft) -> dict[str, Any]:
        """Call the hooks that need the live object; return the states that remain to be written."""
        states = {}
        for chosen in hooks:
            if is_gathered(chosen):
                continue
            if writes_state_only(chosen.hook):
                states[chosen.name] = chosen.obj.state_dict()
            else:
                chosen.save(draft.path, draft.target)
        return states

    def _write_beside(
        self,
        write: Callable[[Mapping[str, Any]], None],
        states: Mapping[str, Any],
        optimizers: Mapping[str, torch.optim.Optimizer],
    ) -> None:
        try:
            copied = self._buffers.copy(states, delayed=optimizers.keys() & states.keys())
        except (MemoryError, RuntimeError) as error:  # torch reports missing memory as the latter
            logger.warning(f"No snapshot could be taken, so training waits for the save: {error}")
            self._buffers = SnapshotBuffers()
            write(states)
            return
        self._copied.clear()
        for optimizer in optimizers.values():
            guard = optimizer.register_step_pre_hook(self._wait_for_copies)
            self._guards.append(guard)
        # No daemon: a program that ends without wait() still finishes its checkpoint.
        self._thread = threading.Thread(
            target=self._run, args=(partial(write, copied),), name="checkpoint writer"
        )
        self._thread.start()

    def _wait_for_copies(self, *step: object) -> None:
        self._copied.wait()

    def _take_off_guards(self) -> None:
        for guard in self._guards:
            guard.remove()
        self._guards.clear()

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:
            # It is raised by wait(); a program that never waits has this line.
            logger.error(f"A checkpoint could not be saved: {error}")
            self._error = error
        finally:
            self._copied.set()

    def _write(
        self,
        draft: CheckpointDraft,
        hooks: list[ChosenHook],
        verbosity: int,
        then: Callable[[], None],
        gathered_states: Mapping[str, Any],
        noted: Mapping[str, Path],
        states: Mapping[str, Any],
    ) -> None:
        with draft.dropped_on_error():
            self._buffers.complete()
            self._copied.set()
            for name, state in {**gathered_states, **states}.items():
                hook = partial(_write_noted, noted[name]) if name in noted else torch.save
                whose = name.removesuffix(PARAMFILE_EXT + SUFFIX)
                ChosenHook(whose, state, hook).save(draft.path, draft.target)
            checkpoint = draft.finish([chosen.name for chosen in hooks])
        self.checkpointer.log_saved(checkpoint, verbosity)
        then()


def _write_noted(target: Path, state: Any, path: Path) -> None:
    del path  # the file was chosen when the state was noted
    write_noted(target, state)


def _guarded_optimizers(hooks: Iterable[ChosenHook]) -> dict[str, torch.optim.Optimizer]:
    """Return name -> optimizer for those whose steps can be made to wait.

    An optimizer whose class does not call torch's constructor runs no hooks before a step.
    """
    return {
        chosen.name: chosen.obj
        for chosen in hooks
        if writes_state_only(chosen.hook)
        and isinstance(chosen.obj, torch.optim.Optimizer)
        and getattr(type(chosen.obj).step, "hooked", False)
    }
