"""Predict the classes of any images: `python -m hw1.predict`."""
