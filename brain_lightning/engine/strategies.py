"""Strategies that leave modules and optimizers where the Brain put them."""

from __future__ import annotations

from lightning.pytorch.strategies import SingleDeviceStrategy
from typing_extensions import override


class InPlaceSingleDevice(SingleDeviceStrategy):
    """One device; nothing is moved, neither at start nor at the end.

    Brain moves its modules when it is built. Lightning's teardown takes modules and optimizer
    states to the CPU, but recipes go on using them on ``brain.device`` after ``fit()``, and a
    ``fit()`` inside of ``fit()`` must not take them away from the outer one.
    """

    @override
    def model_to_device(self) -> None:
        """Brain's constructor did it."""

    @override
    def teardown(self) -> None:
        """Release the plugins, and nothing else (the module ignores being moved to the CPU)."""
        optimizers, self.optimizers = self.optimizers, []
        super().teardown()
        self.optimizers = optimizers
