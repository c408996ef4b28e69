"""Decoded images kept on disk."""
