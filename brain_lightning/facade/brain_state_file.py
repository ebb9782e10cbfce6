"""The file ``brain.ckpt`` of a checkpoint: where in an epoch a Brain is.

What an exact resume needs besides is in a file beside it, which SpeechBrain does not look at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from brain_lightning.ground.caller_warnings import warn_caller
from brain_lightning.parts.checkpoints.checkpoint import METAFNAME


def write_brain_state(
    path: str | Path, step: int, avg_train_loss: Any, optimizer_step: int
) -> None:
    """Write the three numbers as SpeechBrain does: YAML, keys in alphabetical order."""
    state = {"step": step, "avg_train_loss": avg_train_loss, "optimizer_step": optimizer_step}
    Path(path).write_text(yaml.dump(state), encoding="utf-8")


def read_brain_state(path: str | Path) -> dict[str, Any]:
    """Read them; an old file without ``optimizer_step`` has its ``step`` taken for it.

    Raises:
        ValueError: the file does not hold them.
    """
    state = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(state, dict) or not {"step", "avg_train_loss"} <= state.keys():
        raise ValueError(f"{path} does not hold the step and avg_train_loss of a Brain.")
    if "optimizer_step" not in state:
        warn_caller(
            f"{path} has no optimizer_step, as old checkpoints have none; its step is taken."
        )
        state["optimizer_step"] = state["step"]
    return state


def read_draft_meta(folder: Path) -> dict[str, Any]:
    """Return the ``meta`` with which the checkpoint in ``folder`` is being saved, if it is one.

    The meta file is the first that is written, by SpeechBrain's Checkpointer as by ours.
    """
    path = folder / METAFNAME
    meta = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    return meta if isinstance(meta, dict) else {}
