"""Which optimization and which strategy a recipe allows: for the engine and for doctor."""
