"""The training log in SpeechBrain's line format."""
