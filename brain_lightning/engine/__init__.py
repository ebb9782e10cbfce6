"""Engine: the only layer that imports Lightning. A Brain goes in, a LightningModule and a Trainer come out."""
