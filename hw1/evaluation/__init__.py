"""Evaluate trained models: predictions, metrics, calibration, significance."""
