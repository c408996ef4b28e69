"""Class names and probabilities of any pictures: `python -m hw1.predict`."""
