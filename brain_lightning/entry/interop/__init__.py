"""The only place that imports SpeechBrain."""
