"""How long processes wait for one another."""

from __future__ import annotations

import datetime
import os

from brain_lightning.ground.errors import OptionError

TIMEOUT = datetime.timedelta(hours=2)
TIMEOUT_VARIABLE = "BRAIN_LIGHTNING_TIMEOUT"
"""Seconds that a process waits for the others before it gives up."""


def get_timeout() -> datetime.timedelta:
    """Return how long a process waits for the others, from the environment or two hours.

    Raises:
        ValueError: the variable is no positive number of seconds.
    """
    text = os.environ.get(TIMEOUT_VARIABLE)
    if text is None:
        return TIMEOUT
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e8:
        raise OptionError(
            f"The environment variable {TIMEOUT_VARIABLE} is {text!r}, but must be a number of "
            "seconds, more than 0: how long a process waits for the others."
        )
    return datetime.timedelta(seconds=seconds)
