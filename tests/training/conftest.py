"""What the tests of training share."""

from pathlib import Path

import pytest
from helpers.train_commands import write_recipe

from hw1.data.synthetic import draw_shapes


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of seconds, on drawn images of its own."""
    data = tmp_path_factory.mktemp("data") / "shapes"
    draw_shapes(data, 1)
    return write_recipe(tmp_path_factory.mktemp("recipe"), data)
