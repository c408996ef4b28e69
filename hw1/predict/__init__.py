"""Predict the classes of any images: `hw1 predict`."""
