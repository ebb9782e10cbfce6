"""Names among what a recipe logs that are not its own."""

from __future__ import annotations

AXES = frozenset({"epoch", "step"})
"""The names of the loggers' x axes: Lightning gives them, so a recipe's values of that name stay
out, of what callbacks can monitor too."""
