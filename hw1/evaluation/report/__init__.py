"""Answers to labelled images -> what is right, what is wrong and what a confidence is worth: numbers, images, one HTML page."""
