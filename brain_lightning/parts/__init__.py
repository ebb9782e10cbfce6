"""Parts: run options, checkpoints, data, epochs, training log. Usable alone, without Lightning or Brain."""
