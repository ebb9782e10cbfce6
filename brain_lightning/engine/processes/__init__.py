"""What the processes of a run decide and exchange."""
