"""Who steps the optimizers, and the hooks around it."""
