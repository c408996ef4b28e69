"""Keep decoded images on disk."""
