"""Statistics of an evaluation that several processes share."""
