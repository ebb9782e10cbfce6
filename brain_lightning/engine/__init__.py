"""Engine: the only layer that imports Lightning; from a Brain to a LightningModule and Trainer."""
