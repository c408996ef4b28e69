"""Device, processor and processes that a run computes on."""
