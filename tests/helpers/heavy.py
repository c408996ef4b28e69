"""Packages that take long to import."""

HEAVY = {"torch", "timm", "cv2", "albumentations", "torchvision", "matplotlib", "wandb", "numpy"}
