"""Images no larger than any crop can need. No torch."""

import numpy as np
from PIL import Image


def shrunk_size(height: int, width: int, smallest_side: int | None) -> tuple[int, int]:
    """Height and width of what `shrink` leaves of an image of this size."""
    shorter = min(height, width)
    if smallest_side is None or shorter <= smallest_side:
        return height, width
    return round(height * smallest_side / shorter), round(width * smallest_side / shorter)


def shrink(image: np.ndarray, smallest_side: int | None) -> np.ndarray:
    """uint8 [H, W, 3] -> the same with a shorter side of at most `smallest_side` (Lanczos, antialiased); None changes nothing."""
    height, width = shrunk_size(image.shape[0], image.shape[1], smallest_side)
    if (height, width) == image.shape[:2]:
        return image
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
