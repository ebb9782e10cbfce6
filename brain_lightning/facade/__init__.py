"""Facade: the names that a recipe uses, Brain first."""
