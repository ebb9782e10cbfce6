"""Saving a checkpoint in which every process has a part, for states that are first gathered."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from brain_lightning.ground.ranks import (
    ddp_barrier,
    ddp_prevent_block,
    if_main_process,
    is_local_rank_zero,
    main_process_only,
)
from brain_lightning.parts.checkpoints.checkpoint import CKPT_PREFIX, Checkpoint
from brain_lightning.parts.checkpoints.draft import CheckpointDraft
from brain_lightning.parts.checkpoints.errors import CheckpointError
from brain_lightning.parts.checkpoints.hook_choice import ChosenHook
from brain_lightning.parts.checkpoints.main_process_hooks import (
    as_on_main_process,
    needs_other_processes,
)


def save_jointly(
    hooks: Sequence[ChosenHook], open_draft: Callable[[], CheckpointDraft]
) -> Checkpoint | None:
    """Run every hook on every process and let the main process finish the checkpoint.

    Returns the checkpoint on the main process, None on the others. When a hook fails on one
    process, all raise and nothing is left.
    """
    own: list[CheckpointDraft] = []

    def open_for_all() -> tuple[Path, Path, dict[str, Any]]:
        draft = open_draft()
        own.append(draft)
        return draft.path, draft.target, draft.meta

    def finish() -> list[Checkpoint]:
        return [draft.finish([hook.name for hook in hooks]) for draft in own]

    folder, target, meta = main_process_only(open_for_all)()
    try:
        is_apart = _has_no_access_to(folder)
        if is_apart:
            own.append(_same_draft(target, meta))
        _run_hooks(hooks, folder, target, is_apart)
        finished = main_process_only(finish)()
    except BaseException:
        for draft in own:
            draft.discard()
        raise
    if not if_main_process():
        finish()
    ddp_barrier()
    return finished[0] if if_main_process() else None


def _has_no_access_to(folder: Path) -> bool:
    """Whether this is the first process of a machine with a file system of its own."""
    return is_local_rank_zero() and not os.path.isdir(folder)


def _same_draft(target: Path, meta: dict[str, Any]) -> CheckpointDraft:
    name = target.name.removeprefix(f"{CKPT_PREFIX}+")
    return CheckpointDraft(target.parent, meta, meta["end-of-epoch"], name)


def _run_hooks(hooks: Sequence[ChosenHook], folder: Path, target: Path, is_apart: bool) -> None:
    ddp_barrier()  # the folders of all nodes are there
    for chosen in hooks:
        # Told after each: the hooks that follow may wait for this process.
        _raise_together(_failure_of(chosen, folder, target, is_apart))


def _failure_of(chosen: ChosenHook, folder: Path, target: Path, is_apart: bool) -> Exception | None:
    try:
        chosen.save(folder, target)
        if is_apart and not needs_other_processes(chosen.hook):
            # The main process has saved it on its machine's disk; this one needs it too.
            chosen._replace(hook=as_on_main_process(chosen.hook)).save(folder, target)
    except Exception as error:
        return error
    return None


def _raise_together(failure: Exception | None) -> None:
    reports = _from_all(None if failure is None else str(failure))
    if failure is not None:
        raise failure
    others = [report for report in reports if report is not None]
    if others:
        raise CheckpointError(f"Another process failed: {others[0]}")


def _from_all(report: str | None) -> list[str | None]:
    if ddp_prevent_block():
        return [report]
    reports: list[str | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(reports, report)
    return reports
