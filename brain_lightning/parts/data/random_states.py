"""The states of the process-wide random generators that samplers on the CPU draw from."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


def capture_random_states() -> dict[str, Any]:
    """Return the states of torch's (CPU), Python's and, where it is in use, numpy's generator.

    The values are tensors, numbers and lists of numbers.
    """
    version, internal, gauss_next = random.getstate()
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": [version, list(internal), gauss_next],
    }
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        name, keys, position, has_gauss, cached = numpy.random.get_state()
        states["numpy"] = [str(name), keys.tolist(), int(position), int(has_gauss), float(cached)]
    return states


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Set the generators to what :func:`capture_random_states` returned."""
    torch.set_rng_state(states["torch"])
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal), gauss_next))
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy" in states:
        numpy.random.set_state(tuple(states["numpy"]))


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Leave the process-wide generators as they were at the start of the block."""
    before = capture_random_states()
    try:
        yield
    finally:
        restore_random_states(before)
