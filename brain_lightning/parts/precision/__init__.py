"""Precision names and the autocast contexts that they stand for."""
