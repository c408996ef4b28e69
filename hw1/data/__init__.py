"""Images from folders: listing, decoding, augmentation, order and loading."""
