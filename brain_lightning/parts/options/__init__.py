"""Run options: declared once, read from a dictionary or a command line."""
