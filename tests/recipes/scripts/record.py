"""Writes down what a run computes, to the last bit, so that two runs can be compared."""

import hashlib
import os

import torch


def record(label, **values):
    """Append one line to this process's file, which RECIPE_RECORD and the rank name."""
    line = " ".join([label, *(f"{name}={_text(value)}" for name, value in values.items())])
    rank = os.environ.get("RANK", "0")
    with open(f"{os.environ['RECIPE_RECORD']}.{rank}", "a", encoding="utf-8") as file:
        file.write(line + "\n")


def record_weights(label, modules):
    """Append a digest of each module's parameters and buffers."""
    for name, module in modules.items():
        record(f"{label} {name}", weights=_digest(module.state_dict().values()))


def _text(value):
    if isinstance(value, torch.Tensor):
        return value.item().hex() if value.numel() == 1 else _digest([value])
    return value.hex() if isinstance(value, float) else str(value)


def _digest(tensors):
    digest = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor):
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
