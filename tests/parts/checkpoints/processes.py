"""What each of two processes does in the tests of saving together."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.distributed as dist

from brain_lightning.ground.ranks import if_main_process, run_on_main
from brain_lightning.parts.checkpoints import hooks
from brain_lightning.parts.checkpoints.background_writer import BackgroundSaver
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer


def run(scenario: str, folder: str, rank: int, world_size: int, results) -> None:
    """Run a scenario in a process group; put what it returns, or its error, into the queue."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size))
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
    try:
        result = globals()[scenario](Path(folder), rank)
    except Exception as error:
        result = error
    results.put((rank, result))
    if not isinstance(result, Exception):
        dist.barrier()
    dist.destroy_process_group()


def together() -> float:
    """The sum over the processes of their ranks: collectives still fit to one another."""
    value = torch.tensor(float(dist.get_rank()))
    dist.all_reduce(value)
    return value.item()


def module_of(rank: int) -> torch.nn.Linear:
    """A module whose weights tell the rank."""
    module = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(module.weight, float(rank))
    return module


def all_save(folder, rank):
    module = module_of(rank)
    checkpointer = Checkpointer(folder / "save", {"module": module})
    saved = [checkpointer.save_checkpoint({"WER": wer}) is None for wer in (2, 1)]
    checkpointer.save_and_keep_only({"WER": 3}, min_keys=["WER"])
    torch.nn.init.constant_(module.weight, 9.0)
    found = checkpointer.recover_if_possible(min_key="WER")
    return saved, found.meta["WER"], module.weight.item(), together()


def only_main_saves(folder, rank):
    checkpointer = Checkpointer(folder / "save", {"module": module_of(rank)})
    saver = BackgroundSaver(checkpointer)
    if if_main_process():
        for wer in (1, 2):
            checkpointer.save_and_keep_only({"WER": wer}, num_to_keep=5)
        saver.save_and_keep_only({"WER": 3}, num_to_keep=5)
        saver.wait()
    first = together()
    run_on_main(checkpointer.save_checkpoint, kwargs={"meta": {"WER": 4}})
    return first, together(), sorted(c.meta["WER"] for c in checkpointer.list_checkpoints())


def all_gather_first(folder, rank):
    def save(obj, path):
        values = [torch.zeros(1), torch.zeros(1)]
        dist.all_gather(values, torch.tensor([float(rank)]))
        if if_main_process():
            torch.save(values, path)

    checkpointer = Checkpointer(
        folder / "save", {"x": object(), "module": module_of(rank)}, custom_save_hooks={"x": save}
    )
    saver = BackgroundSaver(checkpointer)
    saver.save_and_keep_only({"WER": 1})
    checkpoint = checkpointer.find_checkpoint()
    gathered = [value.item() for value in torch.load(checkpoint.paramfiles["x"])]
    return gathered, sorted(checkpoint.paramfiles)


def one_fails(folder, rank):
    def save(obj, path):
        if rank == 1:
            raise ValueError("odd")
        Path(path).write_text("half")

    checkpointer = Checkpointer(
        folder / "save", {"module": module_of(rank), "x": 1}, custom_save_hooks={"x": save}
    )
    try:
        checkpointer.save_checkpoint()
    except RuntimeError as error:
        dist.barrier()
        return str(error), os.listdir(folder / "save"), together()


def one_fails_before_others(folder, rank):
    def save(obj, path):
        if rank == obj:
            raise ValueError("odd")
        Path(path).write_text("half")

    found = []
    for failing in (0, 1):
        recoverables = {"x": failing, "module": module_of(rank)}
        checkpointer = Checkpointer(folder / "save", recoverables, custom_save_hooks={"x": save})
        try:
            checkpointer.save_checkpoint()
        except RuntimeError as error:
            found.append((str(error), together()))
    return found


def main_cannot_begin(folder, rank):
    checkpointer = Checkpointer(folder / "save", {"x": 1}, custom_save_hooks={"x": print})
    try:
        checkpointer.save_checkpoint({"bad": object()})
    except (TypeError, RuntimeError) as error:
        return type(error).__name__, together()


def main_cannot_recover(folder, rank):
    module = module_of(rank)
    checkpointer = Checkpointer(folder / "save", {"module": module})
    checkpoint = checkpointer.save_checkpoint()
    if if_main_process():
        checkpoint.paramfiles["module"].write_bytes(b"cut")
    try:
        checkpointer.recover_if_possible()
    except RuntimeError as error:
        return type(error).__name__, "module.ckpt" in str(error), together()


def machines_of_their_own(folder, rank):
    own = folder / f"machine{rank}"
    own.mkdir()
    os.chdir(own)  # the same relative path is another folder on each
    os.environ["LOCAL_RANK"] = "0"
    hooks.convert_torch_save_hooks_to_once_per_node()
    module = module_of(rank)
    checkpointer = Checkpointer("save", {"module": module})
    checkpointer.save_checkpoint({"WER": 1})
    torch.nn.init.constant_(module.weight, 9.0)
    found = checkpointer.recover_if_possible()
    return found.meta, module.weight.item(), sorted(os.listdir(found.path))
