"""Export a run as files that others can use: `python -m hw1.export`."""
