"""Epochs, stages and batches: a run, step by step."""
