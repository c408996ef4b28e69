"""What all HTML pages share: one file that needs nothing beside it, its style, its tables. No torch."""
