"""What is in a checkpoint, as lines of text."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from brain_lightning.engine.checkpoints.converted_checkpoint import saved_from_brain, where
from brain_lightning.engine.checkpoints.lightning_checkpoint import FILES, KEY, STATE_DICT
from brain_lightning.entry.conversion import load_lightning_file
from brain_lightning.parts.checkpoints.checkpoint import METAFNAME, PARAMFILE_EXT, Checkpoint
from brain_lightning.parts.checkpoints.errors import CheckpointError
from brain_lightning.parts.checkpoints.integrity import CHECKSUMS
from brain_lightning.parts.checkpoints.opening import checkpoints_in, open_checkpoint

Row = tuple[str, str, str]


def list_checkpoint(path: Path) -> Iterator[str]:
    """Yield lines on a checkpoint folder, a folder of such, or a ``.ckpt`` file.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        CheckpointError: it is no checkpoint, or a damaged one.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    if not path.is_dir():
        yield from _list_file(path)
        return
    inside = [] if (path / METAFNAME).is_file() else checkpoints_in(path)
    if not inside:
        yield from _list_folder(open_checkpoint(path))
    for folder in inside:
        try:
            yield from _list_folder(open_checkpoint(folder))
        except CheckpointError as error:
            yield f"{folder}: {error}"


def _list_folder(checkpoint: Checkpoint) -> Iterator[str]:
    meta = dict(checkpoint.meta)
    saved = datetime.fromtimestamp(meta.pop("unixtime")).isoformat(" ", "seconds")
    moment = "at the end of an epoch" if meta.pop("end-of-epoch") else "in the middle of an epoch"
    yield f"{checkpoint.path}: a checkpoint folder, saved {saved}, {moment}"
    if meta:
        yield f"  meta: {_pairs(meta)}"
    yield from _table(
        (name, _size(path.stat().st_size), _of_bytes(path.read_bytes()))
        for name, path in checkpoint.paramfiles.items()
    )
    has_checksums = (checkpoint.path / CHECKSUMS).exists()
    yield "  its files are what was saved" if has_checksums else "  it has no checksums"
    beside = sorted(
        path.name
        for path in checkpoint.path.iterdir()
        if path.suffix != PARAMFILE_EXT and path.name not in (METAFNAME, CHECKSUMS)
    )
    if beside:
        yield f"  beside them: {', '.join(beside)}"


def _list_file(path: Path) -> Iterator[str]:
    checkpoint = load_lightning_file(path)
    yield (
        f"{path}: a .ckpt file of Lightning {checkpoint['pytorch-lightning_version']}, epoch "
        f"{checkpoint.get('epoch')}, optimizer steps {checkpoint.get('global_step')}"
    )
    try:
        saved = saved_from_brain(checkpoint)
    except ValueError as error:
        yield f"  No recoverables: {error}"
        yield from _table([("state_dict", "", _of_value(checkpoint.get("state_dict")))])
    else:
        yield f"  from a Brain, saved {where(saved['run'])}"
        metrics = saved["run"]["callback_metrics"]
        if metrics:
            yield f"  metrics: {_pairs(metrics)}"
        yield from _table(_rows_of_brain(checkpoint, saved))
    yield from _list_lightnings_own(checkpoint)


def _rows_of_brain(checkpoint: Mapping[str, Any], saved: Mapping[str, Any]) -> Iterator[Row]:
    for name, kind in saved["names"].items():
        if kind == FILES:
            content = saved["files"].get(f"{name}{PARAMFILE_EXT}")
            if content is not None:
                yield name, _size(len(content)), _of_bytes(content.numpy().tobytes())
        elif kind == STATE_DICT:
            prefix = saved["places"][name]
            state = checkpoint["state_dict"]
            inside = {key: value for key, value in state.items() if key.startswith(prefix)}
            yield name, "", f"{_of_value(inside)}, in state_dict as {prefix}*"
        else:
            place = saved["places"][name]
            state = _of_value(checkpoint["optimizer_states"][place])
            yield name, "", f"{state}, in optimizer_states[{place}]"
    for name in saved["left_out"]:
        yield name, "", "not saved: it had no position to be saved at that moment"


def _list_lightnings_own(checkpoint: Mapping[str, Any]) -> Iterator[str]:
    callbacks = checkpoint.get("callbacks") or {}
    if callbacks:
        yield f"  states of callbacks: {', '.join(callbacks)}"
    usual = {"epoch", "global_step", "pytorch-lightning_version", "state_dict", "callbacks", KEY}
    others = sorted(name for name, value in checkpoint.items() if value and name not in usual)
    if others:
        yield f"  beside them: {', '.join(others)}"


def _table(rows: Iterable[Row]) -> Iterator[str]:
    rows = list(rows)
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    for name, size, content in rows:
        yield f"  {name:<{widths[0]}}  {size:>{widths[1]}}  {content}".rstrip()


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _of_bytes(content: bytes) -> str:
    if content.startswith(b"PK"):  # as torch saves
        try:
            return _of_value(torch.load(BytesIO(content), map_location="cpu", weights_only=True))
        except pickle.UnpicklingError:
            return "pickled objects, not looked into"
        except (RuntimeError, LookupError, ValueError) as error:
            return f"cannot be read: {' '.join(str(error).split())}"
    try:
        text = ", ".join(content.decode("utf-8").split("\n")).strip(", ")
    except UnicodeDecodeError:
        return "bytes of its own kind"
    return f"text: {text if len(text) <= 80 else text[:77] + '...'}"


def _of_value(value: Any) -> str:
    tensors = list(_tensors(value))
    if not tensors:
        text = " ".join(str(value).split())
        return f"values: {text if len(text) <= 80 else text[:77] + '...'}"
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors})
    count = sum(tensor.numel() for tensor in tensors)
    plural = "" if len(tensors) == 1 else "s"
    return f"{len(tensors)} tensor{plural}, {count:,} numbers ({', '.join(kinds)})"


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
