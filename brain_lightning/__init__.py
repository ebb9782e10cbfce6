"""SpeechBrain recipes on Lightning."""
