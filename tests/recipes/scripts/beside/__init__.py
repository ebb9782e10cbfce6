"""A package beside a recipe; its modules import each other relatively."""

from . import inner as _inner
from .inner import shift
from .losses import loss

__all__ = ["_inner", "loss", "shift"]
