"""Prediction from files to a CSV file, by whole programs."""
