"""What the tests of predictions share."""

from pathlib import Path

import numpy as np
import pytest
from helpers.model_runs import SIZE
from PIL import Image

from hw1.data.synthetic import draw_image


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn image of the small models' size."""
    path = tmp_path_factory.mktemp("image") / "a.png"
    Image.fromarray(draw_image(3, SIZE, np.random.default_rng(0))).save(path)
    return path
