"""Find, decode, augment and load images."""
