"""What a run saves, and how another one goes on from it."""
