"""The learning rate that a scheduler shows in ``current_lr``, which SpeechBrain's do not save.

They set it when they are called. A recipe that logs it at the end of an epoch, and is resumed
after the last call of that epoch, would log the one of a new scheduler.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAME = "current_lr"


def shown_rates(checkpointer: Any) -> dict[str, float]:
    """Return recoverable's name -> the rate that it shows."""
    rates = {
        name: getattr(each, "__dict__", {}).get(_NAME)
        for name, each in _recoverables(checkpointer).items()
    }
    return {name: rate for name, rate in rates.items() if isinstance(rate, (int, float))}


def show_rates(checkpointer: Any, rates: Mapping[str, float]) -> None:
    """Have the recoverables show what :func:`shown_rates` returned."""
    recoverables = _recoverables(checkpointer)
    for name, rate in rates.items():
        if _NAME in getattr(recoverables.get(name), "__dict__", {}):
            setattr(recoverables[name], _NAME, rate)


def _recoverables(checkpointer: Any) -> dict[str, Any]:
    return getattr(checkpointer, "recoverables", {})
