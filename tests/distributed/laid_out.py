"""One process of two that lays out the gradients of odd modules under DDP.

python -m tests.distributed.laid_out FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from brain_lightning.engine.processes.gradient_order import GradientOrder, lay_out


def linear() -> torch.nn.Module:
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    module.register_buffer("mean", torch.full((1,), torch.distributed.get_rank() + 1.0))
    return module


class Turning(torch.nn.Module):
    """Has a complex parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = torch.nn.Parameter(torch.ones(4, dtype=torch.complex64))

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        return torch.view_as_real(signal * self.turn)


def under_ddp(module: torch.nn.Module) -> tuple[torch.nn.ModuleDict, DistributedDataParallel]:
    wrapped = DistributedDataParallel(module)
    return torch.nn.ModuleDict({"model": wrapped}), wrapped


def laid_out(module: torch.nn.Module, hooked: bool = False) -> list[float]:
    """Lay out, then compute gradients twice; they must be as without."""
    modules, wrapped = under_ddp(module)
    heard = []

    def first_input(_: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        heard.append(inputs[0])

    if hooked:
        wrapped.register_forward_pre_hook(first_input)
        module.register_forward_pre_hook(first_input)
    lay_out(modules, {"model": [name for name, _ in module.named_parameters()]})
    assert not heard
    wrapped(torch.ones(2, 4))
    assert all(each.item() == 1.0 for each in module.buffers())  # the main process's, as ever
    for _ in range(2):
        wrapped(torch.ones(2, 4)).sum().backward()
    return [float(each.grad.abs().sum()) for each in module.parameters() if each.grad is not None]


def gradients_that_wait(rank: int) -> bool:
    """What a process has accumulated alone is not averaged."""
    modules, wrapped = under_ddp(linear())
    for each in wrapped.parameters():
        each.grad = torch.full_like(each, rank + 1.0)
    before = [each.grad for each in wrapped.parameters()]
    lay_out(modules, {"model": [name for name, _ in wrapped.module.named_parameters()]})
    same = all(one.grad is other for one, other in zip(wrapped.parameters(), before, strict=True))
    return same and all(bool((each == rank + 1).all()) for each in before if each is not None)


def orders_known_in_part() -> dict[str, list[str]]:
    """An entry that had not been used, or has other parameters now, is listened to."""
    entries = {name: DistributedDataParallel(linear()) for name in ("used", "unused", "other")}
    modules = torch.nn.ModuleDict(entries)
    names = ["0.weight", "0.bias", "1.bias", "1.weight"]
    known = {"used": names, "unused": [], "other": ["old.weight"]}
    order = GradientOrder(modules, known)
    lay_out(modules, known)
    for each in entries.values():
        each(torch.ones(2, 4)).sum().backward()
    return order.of_all()


def main(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    torch.manual_seed(0)
    plain = linear()
    state = plain.state_dict()

    def same() -> torch.nn.Module:
        module = linear()
        module.load_state_dict(state)
        return module

    found = {
        "plain": laid_out(plain),
        "hooked": laid_out(same(), hooked=True),
        "scripted": laid_out(torch.jit.script(same())),
        "complex": laid_out(Turning()),
        "waiting": gradients_that_wait(rank),
        "in_part": orders_known_in_part(),
    }
    (folder / f"found-{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
