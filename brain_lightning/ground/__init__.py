"""Ground: what everything else stands on. Imports torch and the standard library only."""
