"""Programs that measure; what they wrote, with hardware and date in the name, is in `results/`."""
