"""What is monitored and logged."""
