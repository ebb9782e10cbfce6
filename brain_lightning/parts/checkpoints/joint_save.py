"""Saving a checkpoint in which every process has a part, for states that are first gathered."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from brain_lightning.ground.ranks import (
    ddp_barrier,
    ddp_prevent_block,
    if_main_process,
    is_local_rank_zero,
    main_process_only,
)
from brain_lightning.parts.checkpoints.checkpoint import Checkpoint
from brain_lightning.parts.checkpoints.draft import CheckpointDraft
from brain_lightning.parts.checkpoints.durable_folder import FolderInTheMaking
from brain_lightning.parts.checkpoints.errors import CheckpointError
from brain_lightning.parts.checkpoints.hook_choice import ChosenHook


def save_jointly(
    hooks: Sequence[ChosenHook], open_draft: Callable[[], CheckpointDraft]
) -> Checkpoint | None:
    """Run every hook on every process and let the main process finish the checkpoint.

    Returns the checkpoint on the main process, None on the others. When a hook fails on one
    process, all raise.
    """
    drafts: list[CheckpointDraft] = []

    def open_folder() -> tuple[Path, Path]:
        drafts.append(open_draft())
        return drafts[0].path, drafts[0].target

    def finish() -> None:
        with drafts[0].dropped_on_error():
            finished.append(drafts[0].finish([hook.name for hook in hooks]))

    finished: list[Checkpoint] = []
    folder, target = main_process_only(open_folder)()
    copy = _folder_of_own(folder, target)
    try:
        _run_hooks(hooks, folder, target)
    except BaseException:
        for draft in drafts:
            draft.discard()
        if copy is not None:
            copy.discard()
        raise
    main_process_only(finish)()
    if copy is not None:
        copy.publish()
    ddp_barrier()
    return finished[0] if if_main_process() else None


def _folder_of_own(folder: Path, target: Path) -> FolderInTheMaking | None:
    """On the first process of a node that shares no file system, the node's own folder."""
    if if_main_process() or not is_local_rank_zero() or os.path.isdir(folder):
        return None
    return FolderInTheMaking(target)


def _run_hooks(hooks: Sequence[ChosenHook], folder: Path, target: Path) -> None:
    ddp_barrier()  # the folders of all nodes are there
    failure: Exception | None = None
    try:
        for chosen in hooks:
            chosen.save(folder, target)
    except Exception as error:
        failure = error
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
