"""Grad-CAM and CBAM gates of a trained model, as arrays and as a figure: `hw1 attention`."""
