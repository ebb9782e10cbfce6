"""Writes down every call of a Brain's hooks, with arguments and the state around it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

# Every method of Brain that a recipe may override or call and that the loop calls itself.
ALL_HOOKS = (
    "fit",
    "evaluate",
    "make_dataloader",
    "on_fit_start",
    "init_optimizers",
    "on_evaluate_start",
    "on_stage_start",
    "on_stage_end",
    "on_fit_batch_start",
    "on_fit_batch_end",
    "fit_batch",
    "evaluate_batch",
    "compute_forward",
    "compute_objectives",
    "check_loss_isfinite",
    "check_gradients",
    "freeze_optimizers",
    "optimizers_step",
    "zero_grad",
    "update_average",
    "no_sync",
)
# Overridden by every recipe, so recording them makes no recipe look special to a Brain that
# takes shortcuts for what is not overridden.
ORDINARY_HOOKS = ("compute_forward", "compute_objectives")


@dataclass(frozen=True)
class Event:
    """One line of a trace: what happened, its details, and the state of the Brain then."""

    kind: str
    name: str
    details: Mapping[str, str] = field(default_factory=dict)
    state: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Write the event in one line, without the state."""
        details = ", ".join(f"{key}={value}" for key, value in self.details.items())
        return f"{self.kind} {self.name}({details})"


def digest(data: bytes) -> str:
    """Give a short name to some bytes."""
    return hashlib.blake2b(data, digest_size=6).hexdigest()


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    """Copy the bits of a tensor."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def describe_tensor(tensor: torch.Tensor) -> str:
    """Describe a tensor so that two descriptions are equal only for equal bits."""
    kind = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
    grad = " requires_grad" if tensor.requires_grad else ""
    if tensor.numel() == 1 and tensor.dtype.is_floating_point:
        value = float(tensor.detach().double().item())
        return f"{kind} {value.hex()}~{value:.6g}{grad}"
    return f"{kind} {digest(tensor_bytes(tensor))}{grad}"


def describe(value: Any) -> str:
    """Describe any argument or result; objects by the name of their class only."""
    if isinstance(value, torch.Tensor):
        return describe_tensor(value)
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, float):
        return f"{type(value).__name__} {value.hex()}~{value:.6g}"
    if value is None or isinstance(value, (bool, int, str)):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {describe(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return type(value).__name__ + "[" + ", ".join(describe(item) for item in value) + "]"
    if type(value).__name__ == "PaddedBatch":
        return "PaddedBatch[" + ", ".join(describe(item) for item in value) + "]"
    if type(value).__name__ == "PaddedData":
        return "PaddedData" + describe([value.data, value.lengths])
    return f"<{type(value).__name__}>"


def kind_of_error(error: BaseException) -> str:
    """Name the nearest class that Python itself or a test defines: ours are special cases."""
    kinds = type(error).__mro__
    return next(kind for kind in kinds if not kind.__module__.startswith("brain_")).__name__


def optimizers_of(brain: Any) -> dict[str, torch.optim.Optimizer]:
    """Collect the optimizers that a recipe can see on the Brain, by name."""
    found = {
        name: value
        for name, value in vars(brain).items()
        if isinstance(value, torch.optim.Optimizer) and not name.startswith("_")
    }
    for name, value in (vars(brain).get("optimizers_dict") or {}).items():
        found[f"optimizers_dict.{name}"] = value
    return dict(sorted(found.items()))


def random_states() -> dict[str, str]:
    """Name the state of each global random number generator."""
    _, words, position, _, _ = np.random.get_state(legacy=True)
    return {
        "rng.torch": digest(torch.get_rng_state().numpy().tobytes()),
        "rng.numpy": digest(np.asarray(words).tobytes() + str(position).encode()),
        # The last element is None or a float, and None has another hash in another process.
        "rng.python": f"{hash(random.getstate()[:2])} {random.getstate()[2]}",
    }


def describe_all(tensors: Mapping[str, torch.Tensor | None]) -> str:
    """Give one short name to many named tensors."""
    content = hashlib.blake2b(digest_size=6)
    for name, tensor in tensors.items():
        if tensor is None:
            content.update(f"{name} None;".encode())
        else:
            content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            content.update(tensor_bytes(tensor))
    return content.hexdigest()


def state_of(brain: Any) -> dict[str, str]:
    """Describe everything around a hook that a recipe could notice."""
    autocast = torch.is_autocast_enabled("cpu")
    values: dict[str, str] = {
        "step": describe(getattr(brain, "step", None)),
        "optimizer_step": describe(getattr(brain, "optimizer_step", None)),
        "avg_train_loss": describe(getattr(brain, "avg_train_loss", None)),
        # SpeechBrain has no such attribute before the first epoch.
        "nonfinite_count": describe(getattr(brain, "nonfinite_count", 0)),
        "grad_enabled": describe(torch.is_grad_enabled()),
        "inference_mode": describe(torch.is_inference_mode_enabled()),
        "autocast": str(torch.get_autocast_dtype("cpu")) if autocast else "off",
        **random_states(),
    }
    for name, optimizer in optimizers_of(brain).items():
        rates = [describe(float(group["lr"])) for group in optimizer.param_groups]
        values[f"lr.{name}"] = ", ".join(rates)
    modules = getattr(brain, "modules", None)
    if modules is not None:
        parameters = dict(modules.named_parameters())
        modes = [(name, module.training) for name, module in modules.named_modules()]
        values |= {
            "training": digest(repr(modes).encode()) + f" {modules.training}",
            "weights": describe_all(modules.state_dict()),
            "gradients": describe_all({name: p.grad for name, p in parameters.items()}),
            "requires_grad": digest(repr([p.requires_grad for p in parameters.values()]).encode()),
        }
    return values


class Recorder:
    """Keeps the events of one run."""

    def __init__(self, hooks: tuple[str, ...] = ALL_HOOKS) -> None:
        self.hooks = hooks
        self.events: list[Event] = []

    def add(self, kind: str, name: str, details: Mapping[str, Any], brain: Any = None) -> None:
        """Add one event; ``details`` are described here."""
        described = {key: describe(value) for key, value in details.items()}
        state = {} if brain is None else state_of(brain)
        self.events.append(Event(kind, name, described, state))

    def recording(self, brain_class: type[Any]) -> type[Any]:
        """Derive a class that reports its hooks here and otherwise changes nothing."""
        methods = {
            name: self._reporting(name, getattr(brain_class, name))
            for name in self.hooks
            if hasattr(brain_class, name)
        }
        return type(brain_class.__name__, (brain_class,), methods)

    def _reporting(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def reporting(brain: Any, *args: Any, **kwargs: Any) -> Any:
            # Positional or by keyword is kept apart: a recipe may have renamed its arguments.
            given = {str(index): value for index, value in enumerate(args)} | kwargs
            self.add("call", name, given, brain)
            try:
                result = method(brain, *args, **kwargs)
            except BaseException as error:
                self.add("raise", name, {"error": kind_of_error(error)}, brain)
                raise
            self.add("return", name, {"result": result}, brain)
            return result

        reporting.__name__ = name
        return reporting


def describe_files(folder: Path) -> Iterator[tuple[str, str]]:
    """List the files below a folder; a checkpoint folder by its meta instead of its time."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith("CKPT+") for part in relative.parts):
            yield relative.as_posix(), "a file"
    checkpoints = []
    for path in folder.rglob("CKPT+*"):
        meta = yaml.safe_load((path / "CKPT.yaml").read_text())
        checkpoints.append((meta.pop("unixtime"), path, meta))
    for index, (_, path, meta) in enumerate(sorted(checkpoints, key=lambda entry: entry[0])):
        # CKPT+<date>+<time>+<number>, or the name that the recipe gave
        title = path.name if path.name.count("+") == 1 else "CKPT+<time>"
        names = sorted(file.name for file in path.iterdir())
        parent = path.parent.relative_to(folder).as_posix()
        yield f"checkpoint {index} {parent}/{title} {meta}", " ".join(names)
