"""Parts: options, checkpoints, data, epochs, training log; usable without Lightning and Brain."""
