"""What a trained network looks at, as arrays, and beside the photos: `python -m hw1.attention`."""
