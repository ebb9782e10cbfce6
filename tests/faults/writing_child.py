"""A process that saves all the time, to be killed. Its tensors tell the step that they are from."""

from __future__ import annotations

import builtins
import functools
import os
import signal
from itertools import count
from pathlib import Path
from typing import Any

import torch

from brain_lightning.parts.checkpoints.background_writer import BackgroundSaver
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.hooks import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)

CALLS = ("mkdir", "rename", "unlink", "rmdir", "fsync")


@register_checkpoint_hooks
class Step:
    """The step, saved in a text file by a hook of its own."""

    def __init__(self) -> None:
        self.value = 0

    @mark_as_saver
    def save(self, path):
        """Write it."""
        with open(path, "w") as file:
            file.write(str(self.value))

    @mark_as_loader
    def load(self, path, end_of_epoch):
        """Read it."""
        with open(path) as file:
            self.value = int(file.read())


def make_recoverables(size: int = 64) -> dict:
    """A module, an optimizer with a state, and the step."""
    module = torch.nn.Linear(size, size)
    optimizer = torch.optim.Adam(module.parameters())
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return {"module": module, "optimizer": optimizer, "step": Step()}


def set_step(recoverables: dict, step: int) -> None:
    """Put the step into every tensor."""
    recoverables["step"].value = step
    with torch.no_grad():
        for tensor in tensors(recoverables):
            tensor.fill_(step)


def tensors(recoverables: dict) -> list[torch.Tensor]:
    """All tensors that are saved."""
    states = recoverables["optimizer"].state.values()
    moments = [state[key] for state in states for key in ("exp_avg", "exp_avg_sq")]
    return [*recoverables["module"].parameters(), *moments]


def steps_found(recoverables: dict) -> set[int]:
    """The steps that the tensors and the text say; one if all is from one save."""
    values = {int(value) for tensor in tensors(recoverables) for value in tensor.unique().tolist()}
    return values | {recoverables["step"].value}


def save(mode: str, saver, step: int) -> None:
    """One save in one of the ways in which a recipe saves."""
    if mode == "keep":
        saver.save_and_keep_only({"step": step}, num_to_keep=2)
    elif mode == "named":
        saver.save_checkpoint({"step": step}, name="latest")
    elif mode == "mixed":
        name = "latest" if step % 2 else None
        saver.save_and_keep_only({"step": step, "WER": step % 3}, name=name, min_keys=["WER"])
    elif mode == "background":
        saver.save_and_keep_only({"step": step})
        saver.wait()
    else:
        raise ValueError(mode)


def main(folder: str, mode: str, log: str, die_before: int | None) -> None:
    """Go on from the newest checkpoint and save until killed.

    After each finished save its step is appended to ``log``. With ``die_before`` the process kills
    itself before the call of that number that changes the disk, and says in ``log`` which it is.
    """
    with open(log, "ab", buffering=0) as finished:
        finished.write(b"started\n")
        if die_before is not None:
            _die_before(die_before, finished)
        recoverables = make_recoverables()
        checkpointer = Checkpointer(folder, recoverables)
        saver = BackgroundSaver(checkpointer) if mode == "background" else checkpointer
        found = checkpointer.recover_if_possible()
        for step in count(1 if found is None else found.meta["step"] + 1):
            set_step(recoverables, step)
            save(mode, saver, step)
            finished.write(f"{step}\n".encode())


def _die_before(number: int, log: Any) -> None:
    numbers = count(1)

    def watched(name: str, function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(numbers) == number:
                what = args[-1] if name == "torch.save" else args[0]
                log.write(f"dies before {name} {what}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, watched(name, getattr(os, name)))
    plain_open, watched_open = open, watched("open", open)

    def open_watched(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        opening = watched_open if set(mode) & set("wax+") else plain_open
        return opening(file, mode, *args, **kwargs)

    builtins.open = open_watched
    torch.save = watched("torch.save", torch.save)
    Path.write_text = watched("write", Path.write_text)
