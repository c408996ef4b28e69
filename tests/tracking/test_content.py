"""The line that says what leaves the machine."""

from hw1.config.recipe import LogConfig
from hw1.tracking.content import describe_content


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
