"""Report an evaluation on labelled images: metrics, mistakes and calibration as files, figures and one HTML page."""
