"""Grad-CAM and CBAM gates of a trained model, as arrays and as a figure: `python -m hw1.attention`."""
