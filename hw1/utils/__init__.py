"""Helpers for files, signals, the console and text."""
