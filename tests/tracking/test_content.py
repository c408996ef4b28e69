"""What trackers are given, and the line that says so."""

import importlib.util

import pytest

from hw1.config.recipe import LogConfig
from hw1.errors import UserError
from hw1.tracking.content import describe_content
from hw1.tracking.start import check_trackers


def test_each_kind_of_content_is_named_with_its_size_only_where_it_is_sent():
    told = {
        upload: describe_content(LogConfig(upload=upload), epochs=50, steps_per_epoch=200, weight_bytes=348_000_000)
        for upload in (("metrics",), ("metrics", "images"), ("metrics", "images", "model"))
    }
    first, second, third = told.values()
    assert "photographs" not in first
    assert "weights" not in second
    assert second.startswith(first)
    assert third.startswith(second)
    assert "the best weights (about 348 MB)" in third


def test_a_tracker_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_trackers(LogConfig())
    with pytest.raises(UserError, match=r"^log: tensorboard is not installed; pip install tensorboard$"):
        check_trackers(LogConfig(to=("tensorboard",)))
