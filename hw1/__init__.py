"""hw1: a config-driven recipe for training image classifiers on timm."""

__version__ = "0.2.0"
