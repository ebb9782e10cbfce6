"""Buffers of the main process on every process, while all evaluate for it."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from brain_lightning.ground.gathering import all_gathered
from brain_lightning.ground.sharded_tensors import is_sharded_tensor


class MainBuffers:
    """Running means and other buffers as the main process has them, for one stage.

    Processes may have different ones: DDP and FSDP2 send the main process's before a forward pass,
    and not all modules are in one of them. A whole evaluation on the main process would be done
    with its own.
    """

    def __init__(self, modules: torch.nn.ModuleDict) -> None:
        """Take the main process's buffers; all processes call it together."""
        self._own: list[tuple[torch.Tensor, torch.Tensor]] = []
        wrapped = [each for each in modules.values() if isinstance(each, DistributedDataParallel)]
        sharded = [each for each in modules.values() if _is_sharded(each)]
        buffers = {
            name: buffer
            for name, buffer in modules.named_buffers()
            if not is_sharded_tensor(buffer)
        }
        for name, value in _differing(buffers).items():
            buffer = buffers[name]
            exchanging = (each for module in (*wrapped, *sharded) for each in module.buffers())
            if not any(buffer is each for each in exchanging):
                self._own.append((buffer, buffer.detach().clone()))
            with torch.no_grad():
                buffer.copy_(value)
        for module in wrapped:
            # It has them now. Else a module that is called for some batches only would wait for
            # processes that do not call it.
            module.require_forward_param_sync = False

    def put_back(self) -> None:
        """Put a process's own buffers back where a forward pass would not have exchanged them."""
        for buffer, value in self._own:
            with torch.no_grad():
                buffer.copy_(value)
        self._own = []


def _is_sharded(module: torch.nn.Module) -> bool:
    return any(is_sharded_tensor(each) for each in module.parameters())


def _differing(buffers: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the main process's values of those buffers that are not the same everywhere."""
    digests = {name: _digest(buffer) for name, buffer in buffers.items()}
    everywhere = all_gathered(digests)
    names = {name for each in everywhere for name in digests if each.get(name) != digests[name]}
    differ = [name for name in buffers if name in names]
    # Every process must come to the same: ask whether anybody has a difference.
    if not any(each != everywhere[0] for each in everywhere):
        return {}
    is_main = torch.distributed.get_rank() == 0
    values: dict[str, Any] = all_gathered(
        {name: buffer.detach().cpu() for name, buffer in buffers.items()} if is_main else None
    )[0]
    return {name: values[name] for name in differ if name in values}


def _digest(buffer: torch.Tensor) -> tuple[Any, ...]:
    plain = buffer.detach().cpu().contiguous().reshape(-1)
    content = plain.view(torch.uint8).numpy().tobytes()
    return tuple(buffer.shape), str(buffer.dtype), zlib.crc32(content)


def exchanges_in_training_mode(hparams: Any, modules: torch.nn.ModuleDict) -> str | None:
    """Return the name of a module that would wait for other processes in an evaluation, or None.

    Only ``modules`` are put into evaluation mode; one that is in hparams alone stays in training.
    """
    known = {id(part) for part in modules.modules()}
    for name, value in vars(hparams).items() if hasattr(hparams, "__dict__") else ():
        if not isinstance(value, torch.nn.Module):
            continue
        for part in value.modules():
            if id(part) not in known and part.training and _exchanges(part):
                return f"hparams.{name}"
    return None


def _exchanges(module: torch.nn.Module) -> bool:
    if isinstance(module, torch.nn.SyncBatchNorm):
        return True
    # SpeechBrain's, known by name: it is imported in the entry layer only.
    is_normalization = type(module).__name__ == "InputNormalization"
    return is_normalization and getattr(module, "norm_type", None) == "global"
