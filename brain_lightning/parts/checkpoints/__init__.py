"""SpeechBrain's checkpoint format, saved all-or-nothing. Imports neither Lightning nor Brain."""
