"""Epoch counters whose position is saved in a checkpoint."""
