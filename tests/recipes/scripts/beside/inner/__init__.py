"""A package in a package."""

from .numbers import shift

__all__ = ["shift"]
