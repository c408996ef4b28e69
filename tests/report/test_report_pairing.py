"""Which runs may be compared, and why others may not."""

from pathlib import Path

import numpy as np
import pytest
from helpers.report_runs import write_run

from hw1.ablate.variants import PAIRS
from hw1.report.collect import collect
from hw1.report.pair_results import compare_pairs
from hw1.report.pairing import PairRuns, data_differences, environment_differences, match_pair, recipe_differences

PAIR = {pair.name: pair for pair in PAIRS}


def matched(root: Path) -> PairRuns:
    return match_pair(PAIR["mixup"], collect(root))


def test_a_pair_is_matched_seed_by_seed(tmp_path):
    for variant, seed in [("plain", 0), ("plain", 2), ("plain", 3), ("mixup", 3), ("mixup", 0), ("mixup", 4)]:
        write_run(tmp_path, variant, seed)
    found = matched(tmp_path)
    assert [run.path for run in found.without] == ["plain/seed0", "plain/seed3"]
    assert [run.path for run in found.with_] == ["mixup/seed0", "mixup/seed3"]
    assert found.obstacles == []
    assert found.notices == [
        "seed 2 of plain without a finished partner, so not in this comparison",
        "seed 4 of mixup without a finished partner, so not in this comparison",
    ]
    without, with_ = found.correct
    assert without.shape == with_.shape == (2, 300)
    np.testing.assert_array_equal(with_[1], found.with_[1].correct)


@pytest.mark.parametrize(
    ("present", "line"),
    [
        ([("plain", 0)], "no finished run of mixup"),
        ([("mine", 0)], "no finished run of plain or mixup"),
        ([("plain", 0), ("mixup", 1)], "no seed has finished in both plain and mixup"),
    ],
)
def test_a_pair_without_common_seeds_has_no_verdict(tmp_path, present, line):
    for variant, seed in present:
        write_run(tmp_path, variant, seed)
    assert matched(tmp_path).obstacles == [line]
    result = next(result for result in compare_pairs(collect(tmp_path)) if result.pair.name == "mixup")
    assert (result.verdict, result.outcome, result.sentence) == (None, "not run", f"not run: {line}.")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"env": {"fingerprint": "cd" * 32}}, "different data: fingerprint abababab (plain seed 0); fingerprint cdcdcdcd (mixup seed 0)"),
        ({"num_images": 290}, "different validation images: 300 images (plain seed 0); 290 images (mixup seed 0)"),
        ({"classes": 12}, "different class names: 10 classes (plain seed 0); 12 classes (mixup seed 0)"),
        ({"overrides": ("optim.lr=0.001",)}, "the recipes differ in more than mixup.prob: optim.lr: 0.0001 -> 0.001"),
        ({"epochs": 5}, "the recipes differ in more than mixup.prob: train.epochs: 4 -> 5"),
        ({"overrides": ("mixup.prob=0.0",)}, "the recipes do not differ in mixup.prob"),
    ],
)
def test_what_makes_a_comparison_unfair_is_an_obstacle(tmp_path, change, line):
    write_run(tmp_path, "plain", 0)
    write_run(tmp_path, "mixup", 0, **change)
    assert line in matched(tmp_path).obstacles
    result = next(result for result in compare_pairs(collect(tmp_path)) if result.pair.name == "mixup")
    assert (result.verdict, result.outcome) == (None, "not compared")
    assert line in result.sentence


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ({"fingerprint": "old"}, {"fingerprint": "new", "fingerprint_without_content": "old"}, True),
        ({"fingerprint": "old"}, {"fingerprint": "new", "fingerprint_without_content": "other"}, False),
        (
            {"fingerprint": "new", "fingerprint_without_content": "old"},
            {"fingerprint": "swapped", "fingerprint_without_content": "old"},
            False,
        ),
    ],
)
def test_runs_begun_before_contents_counted_are_compared_without(tmp_path, first, second, is_same):
    write_run(tmp_path, "plain", 0, env=first)
    write_run(tmp_path, "mixup", 0, env=second)
    assert any("different data" in line for line in matched(tmp_path).obstacles) != is_same


def test_seeds_of_one_variant_with_different_recipes_stand_in_the_way(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, "plain", seed, overrides=("optim.lr=0.001",) if seed else ())
        write_run(tmp_path, "mixup", seed)
    assert matched(tmp_path).obstacles == ["different recipes: plain/seed0 -> plain/seed1: optim.lr: 0.0001 -> 0.001"]
    assert recipe_differences(collect(tmp_path).runs_of("mixup")) == []


HARDWARE = "different hardware or precision (minutes and images/s do not compare)"


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ({"git": {"commit": "ff" * 20}}, "different code: commit 0123456789 (plain seed 0); commit ffffffffff (mixup seed 0)"),
        ({"git": None}, "different code: commit 0123456789 (plain seed 0); hw1 0.1.0, commit unknown (mixup seed 0)"),
        ({"packages": {"torch": "2.11.0", "timm": "1.0.31"}}, "different torch or timm: torch 2.10.0, timm 1.0.31"),
        ({"device": "GPU X"}, f"{HARDWARE}: Some CPU, 2 cores (plain seed 0); GPU X (mixup seed 0)"),
        ({"precision": "bf16"}, f"{HARDWARE}: Some CPU, 2 cores (plain seed 0); Some CPU, 2 cores, bf16 (mixup seed 0)"),
    ],
)  # fmt: skip
def test_environment_differences_are_notices_but_no_obstacles(tmp_path, env, line):
    write_run(tmp_path, "plain", 0)
    write_run(tmp_path, "mixup", 0, env=env)
    found = matched(tmp_path)
    assert found.obstacles == []
    assert any(notice.startswith(line) for notice in found.notices), found.notices


def test_where_and_how_loudly_a_run_ran_is_no_difference(tmp_path):
    write_run(tmp_path, "plain", 0)
    write_run(tmp_path, "mixup", 0, overrides=("data.root=elsewhere", "data.num_workers=3", "log.every_steps=7", "log.tags=[a]"))
    found = matched(tmp_path)
    assert (found.obstacles, found.notices) == ([], [])


def test_modified_code_is_named_although_the_commit_is_the_same(tmp_path):
    for variant in ("plain", "mixup"):
        write_run(tmp_path, variant, 0, env={"git": {"commit": "12" * 20, "modified": True}})
    runs = collect(tmp_path).runs
    assert data_differences(runs) == []
    assert environment_differences(runs) == [
        "made from a modified checkout, so that commit 1212121212 does not identify the code: mixup seed 0, plain seed 0"
    ]
