"""Loaders, samplers and batches that a recipe's make_dataloader needs."""
