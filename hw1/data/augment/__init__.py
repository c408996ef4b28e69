"""Augment training images, and resize the others."""
