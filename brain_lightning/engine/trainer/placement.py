"""Where a run takes place: accelerator, devices and strategy of the Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.accelerators import (
    Accelerator,
    CPUAccelerator,
    CUDAAccelerator,
    MPSAccelerator,
)

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.trainer.strategies import InPlaceProcessGroup, InPlaceSingleDevice
from brain_lightning.engine.trainer.strategy_choice import strategy_in
from brain_lightning.ground.device_count import as_count, number_of_processes
from brain_lightning.ground.errors import OptionError
from brain_lightning.ground.ranks import ddp_prevent_block
from brain_lightning.parts.recipe_rules.strategy_rules import DEEPSPEED, STRATEGY_RULES

PLACES = frozenset({"devices", "strategy", "accelerator", "num_nodes"})
"""The Trainer arguments that say where."""


_ACCELERATORS: Mapping[str, frozenset[str]] = {
    "cuda": frozenset({"auto", "cuda", "gpu"}),
    "mps": frozenset({"auto", "gpu", "mps"}),
}
"""Device type -> the accelerators of Lightning's that it is; others are called as they are."""

_KINDS: Mapping[type[Accelerator], str] = {
    CPUAccelerator: "cpu",
    CUDAAccelerator: "cuda",
    MPSAccelerator: "mps",
}


def check_accelerator(brain: BrainProtocol, user: Mapping[str, Any]) -> None:
    """See that the accelerator that was asked for is the Brain's device.

    Raises:
        OptionError: it is another one, so the Brain would not train there.
    """
    asked = user.get("accelerator", "auto")
    kind = torch.device(brain.device).type
    if isinstance(asked, Accelerator) and not isinstance(asked, tuple(_KINDS)):
        return  # of a device that Lightning does not know
    if _kind_of(asked) not in _ACCELERATORS.get(kind, {"auto", kind}):
        raise OptionError(
            f"trainer: accelerator={asked!r}, but the run option device is {str(brain.device)!r}, "
            "and a Brain trains on its device. Set device (--device cuda:0, --device cpu) and "
            "leave out trainer.accelerator."
        )


def _kind_of(accelerator: object) -> str:
    if isinstance(accelerator, Accelerator):
        return next(name for kind, name in _KINDS.items() if isinstance(accelerator, kind))
    if isinstance(accelerator, str):
        return accelerator.lower()
    raise OptionError(
        f"trainer: accelerator={accelerator!r}, but it must be a name such as 'cpu' or 'gpu', or "
        "one of lightning.pytorch.accelerators. A Brain trains on its device; leave it out."
    )


def placement(brain: BrainProtocol, user: Mapping[str, Any]) -> dict[str, Any]:
    """Return accelerator, devices, strategy and so on: the Brain's device and process group.

    Raises:
        OptionError: the user's ``devices``, ``num_nodes`` or ``strategy`` are others.
    """
    device = torch.device(brain.device)
    arguments: dict[str, Any] = {
        "accelerator": "gpu" if device.type == "cuda" else device.type,
        "devices": [device.index or 0] if device.type == "cuda" else 1,
    }
    if runs_among_others(brain):
        strategy = InPlaceProcessGroup(_numbered(device))
        _check_places(strategy, user)
        if strategy_in(user) == DEEPSPEED:
            # It moves and wraps what Lightning gives it, among the processes that there are.
            here = {
                "devices": len(strategy.parallel_devices or ()),
                "num_nodes": strategy.num_nodes,
            }
            return {**arguments, **here, "strategy": user["strategy"]}
        if user.get("strategy") == "ddp_find_unused_parameters_true":
            brain.find_unused_parameters = True
        return {**arguments, "strategy": strategy, "num_nodes": strategy.num_nodes}
    _require_one_process(brain, user)
    if strategy_in(user) in (None, DEEPSPEED):
        return {**arguments, **{name: user[name] for name in PLACES & user.keys()}}
    return {**arguments, "strategy": InPlaceSingleDevice(device)}


def _check_places(strategy: InPlaceProcessGroup, user: Mapping[str, Any]) -> None:
    here = len(strategy.parallel_devices or ())
    for name, asked, there in (
        ("devices", number_of_processes(user), here),
        ("num_nodes", as_count(user.get("num_nodes", 1), "num_nodes"), strategy.num_nodes),
    ):
        if name in user and asked != there:
            raise OptionError(
                f"trainer: {name}={user[name]!r}, but the launcher started {here} processes on "
                f"each of {strategy.num_nodes} machines. Leave out trainer.{name}."
            )
    if strategy_in(user) is None:
        raise OptionError(
            f"trainer: strategy={user['strategy']!r} cannot be had in Brain.fit() with several "
            f"processes. There are {', '.join(STRATEGY_RULES)}; or make a Trainer yourself and "
            "give it BrainModule(brain)."
        )


def _require_one_process(brain: BrainProtocol, user: Mapping[str, Any]) -> None:
    # What one process runs alone, beside others that wait, is told the same as they are.
    if brain.distributed_launch or not {"devices", "num_nodes"} & user.keys():
        return
    count = number_of_processes(user) * as_count(user.get("num_nodes", 1), "num_nodes")
    if count > 1:
        raise OptionError(
            f"trainer: devices={user.get('devices', 1)!r}, num_nodes={user.get('num_nodes', 1)!r} "
            "ask for several processes, but this is one alone. Start the recipe with "
            "brain-lightning run, or with torchrun, and call ddp_init_group(run_opts) in it."
        )


def runs_among_others(brain: BrainProtocol) -> bool:
    """Whether all processes of a group run this together.

    Not so in what one process runs alone (``run_on_main``), and when no launcher started the
    processes: SpeechBrain's Brain then neither splits the data nor wraps the modules.
    """
    return brain.distributed_launch and not ddp_prevent_block()


def _numbered(device: torch.device) -> torch.device:
    if str(device) == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return device
