"""What all HTML pages share: the frame with its style and script, and tables. No torch."""
