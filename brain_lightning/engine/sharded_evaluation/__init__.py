"""Validation and test shared out over the processes."""
