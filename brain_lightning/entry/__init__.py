"""Entry: command line, running a recipe, and meeting an installed SpeechBrain."""
