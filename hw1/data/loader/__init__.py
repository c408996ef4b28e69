"""Load images as batches on the device."""
