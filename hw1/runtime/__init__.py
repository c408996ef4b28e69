"""What the code runs on: processes, devices, cores."""
