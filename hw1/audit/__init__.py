"""Find what is wrong with a folder of images: leaks between its splits, copies, contradicting labels, files that cannot be read."""
