"""Ground: what everything else stands on; it imports nothing of this package's other layers."""
