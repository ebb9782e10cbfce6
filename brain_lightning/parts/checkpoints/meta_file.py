"""The meta file of a checkpoint: plain values as YAML, readable by SpeechBrain's safe loader."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from brain_lightning.parts.checkpoints.errors import DamagedCheckpointError

FIRST_LINE = "# yamllint disable\n"


def plain_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``meta`` with what YAML can hold and any reader can load.

    Numbers of numpy and tensors with one value become Python numbers, tuples lists, paths text.

    Raises:
        TypeError: a value has no such form; the message names its key.
    """
    return {key: _plain(value, f"meta[{key!r}]") for key, value in meta.items()}


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, date, bytes)):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):  # also numpy's float64 and enum members that are numbers
            return kind(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {_plain(k, where): _plain(v, f"{where}[{k!r}]") for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    return _single_number(value, where)


def _single_number(value: Any, where: str) -> Any:
    if getattr(value, "shape", None) is not None and callable(getattr(value, "tolist", None)):
        item = value.tolist()
        if isinstance(item, (bool, int, float, str)):
            return item
        return _plain(item, where)
    raise TypeError(
        f"{where} is {value!r} of type {type(value).__name__}, which the meta file of a checkpoint "
        "cannot hold. Give numbers, text, None, or lists and dicts of them."
    )


def meta_text(meta: Mapping[str, Any]) -> str:
    """Return the text of a meta file with plain values.

    Raises:
        TypeError: the time of saving is no number, so that the checkpoint could not be found.
    """
    if not isinstance(meta["unixtime"], (int, float)):
        raise TypeError(f"meta['unixtime'] must be seconds as a number, not {meta['unixtime']!r}.")
    return FIRST_LINE + str(yaml.safe_dump(dict(meta)))


def read_meta(path: Path) -> dict[str, Any]:
    """Read a meta file.

    Raises:
        DamagedCheckpointError: it cannot be read, is no YAML, or has no time of saving.
    """
    try:
        meta = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())  # YAML draws a picture over several lines
        raise DamagedCheckpointError(f"The meta file {path} cannot be read: {reason}.") from error
    if not isinstance(meta, dict):
        raise DamagedCheckpointError(f"The meta file {path} holds no mapping but {meta!r:.80}.")
    if not isinstance(meta.get("unixtime"), (int, float)):
        raise DamagedCheckpointError(f"The meta file {path} does not say its unixtime.")
    return meta
