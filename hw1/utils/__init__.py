"""Files, signals and text."""
