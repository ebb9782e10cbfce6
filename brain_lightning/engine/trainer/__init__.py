"""The Trainer of a run, and where its arguments come from."""
