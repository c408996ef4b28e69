"""Class names and probabilities of any images: `python -m hw1.predict`."""
