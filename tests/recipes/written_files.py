"""Compares the files that two runs wrote, by content."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

# What we write in addition (DESIGN 7): SpeechBrain ignores it.
ADDITIONS = re.compile(r"(^|/)checksums\.json$|\.ckpt\.(resume|stopper)$")
# Time and machine stand in them, or the library's own sentences.
NOT_COMPARED = re.compile(r"(^|/)(log\.txt|env\.log)$")


def differences(native: Path, ours: Path) -> list[str]:
    """Say for each file that only one side has, or that differs, what it is."""
    left, right = _files(native), _files(ours)
    lines = [f"only native writes {name}" for name in sorted(left.keys() - right.keys())]
    lines += [f"only ours writes {name}" for name in sorted(right.keys() - left.keys())]
    for name in sorted(left.keys() & right.keys()):
        if not NOT_COMPARED.search(name):
            lines += [f"{name}: {line}" for line in _compare(left[name], right[name])]
    return lines


def _files(folder: Path) -> dict[str, Path]:
    """The files by a name that has no time in it: checkpoints are numbered as they were saved."""
    numbers = _checkpoint_numbers(folder)
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        parts = [
            numbers.get(folder.joinpath(*path.relative_to(folder).parts[: index + 1]), part)
            for index, part in enumerate(path.relative_to(folder).parts)
        ]
        name = "/".join(parts)
        if not ADDITIONS.search(name):
            found[name] = path
    return found


def _checkpoint_numbers(folder: Path) -> dict[Path, str]:
    timed = [path for path in folder.rglob("CKPT+*") if path.name.count("+") >= 3]
    times = {path: yaml.safe_load((path / "CKPT.yaml").read_text())["unixtime"] for path in timed}
    return {path: f"CKPT#{number}" for number, path in enumerate(sorted(timed, key=times.get))}  # type: ignore[arg-type]


def _compare(native: Path, ours: Path) -> Iterator[str]:
    if native.read_bytes() == ours.read_bytes():
        return
    if native.name == "CKPT.yaml":
        contents = [yaml.safe_load(path.read_text()) for path in (native, ours)]
        for content in contents:
            content.pop("unixtime")
        yield from _compare_values("meta", *contents)
    elif native.suffix in (".ckpt", ".pt") and _is_binary(native):
        loaded = [torch.load(path, weights_only=False) for path in (native, ours)]
        yield from _compare_values("content", *loaded)
    else:
        yield from _compare_texts(native.read_text(), ours.read_text())


def _is_binary(path: Path) -> bool:
    return path.read_bytes()[:2] == b"PK"


def _compare_texts(native: str, ours: str) -> Iterator[str]:
    left = native.replace("/native/", "/FOLDER/").splitlines()
    right = ours.replace("/ours/", "/FOLDER/").splitlines()
    for number, (one, other) in enumerate(zip(left, right, strict=False), 1):
        if one != other:
            yield f"line {number}: native {one!r}, ours {other!r}"
            return
    if len(left) != len(right):
        yield f"native has {len(left)} lines, ours {len(right)}"


def _compare_values(name: str, native: Any, ours: Any) -> Iterator[str]:
    if isinstance(native, torch.Tensor) and isinstance(ours, torch.Tensor):
        same_kind = native.dtype == ours.dtype and native.shape == ours.shape
        if not same_kind or not torch.equal(native, ours):
            yield f"{name}: the tensors differ"
    elif isinstance(native, dict) and isinstance(ours, dict):
        if list(native) != list(ours):
            yield f"{name}: native has the keys {list(native)}, ours {list(ours)}"
        for key in native.keys() & ours.keys():
            yield from _compare_values(f"{name}[{key!r}]", native[key], ours[key])
    elif isinstance(native, (list, tuple)) and len(native) == len(ours):
        for index, (one, other) in enumerate(zip(native, ours, strict=True)):
            yield from _compare_values(f"{name}[{index}]", one, other)
    elif native != ours:
        yield f"{name}: native {native!r}, ours {ours!r}"
