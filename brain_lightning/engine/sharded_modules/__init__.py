"""FSDP2: entries of ``modules`` whose parameters are shared out."""
