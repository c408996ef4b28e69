"""Runs that differ in the seed alone are one variant, under a name that tells it from others."""

import json
from pathlib import Path

import pytest
from helpers.report_runs import write_run

from hw1.errors import UserError
from hw1.report.collect import collect
from hw1.report.compare.setting_tables import environment_table, key_table
from hw1.report.compare.variants import group_runs, relabelled
from hw1.report.content import build_report


def groups(*roots: Path) -> dict[str, list[str]]:
    """Paths of the runs of each variant by its name, unfinished ones in brackets."""
    return {
        variant.name: [*(run.path for run in variant.runs), *(f"({run.path})" for run in variant.unfinished)]
        for variant in group_runs(collect(*roots))
    }


def test_seeds_are_one_variant_with_whatever_is_unfinished(tmp_path):
    for seed in (0, 1, 10):
        write_run(tmp_path, "mine", seed, finished=seed != 1, overrides=(f"data.num_workers={seed}", f"log.tags=[t{seed}]"))
    assert groups(tmp_path) == {"mine": ["mine/seed0", "mine/seed10", "(mine/seed1)"]}


def test_one_recipe_under_two_names_is_two_variants(tmp_path):
    for name in ("before", "after"):
        write_run(tmp_path, name, 0)
    assert groups(tmp_path) == {"after": ["after/seed0"], "before": ["before/seed0"]}
    assert groups(tmp_path / "before", tmp_path / "after") == {"before": ["before/seed0"], "after": ["after/seed0"]}


def test_equal_names_of_other_recipes_are_told_apart_by_what_differs(tmp_path):
    for seed, lr in enumerate((0.1, 0.1, 0.2)):
        write_run(tmp_path, "mine", seed, overrides=(f"optim.lr={lr}",))
    assert groups(tmp_path) == {
        "mine (optim.lr=0.1)": ["mine/seed0", "mine/seed1"],
        "mine (optim.lr=0.2)": ["mine/seed2"],
    }


def test_equal_names_in_two_folders_are_told_apart_by_the_folder_where_a_seed_comes_twice(tmp_path):
    for folder in ("a", "b"):
        write_run(tmp_path / folder, "mine", 0, accuracy=0.5 if folder == "a" else 0.6)
    assert groups(tmp_path) == {"a/mine": ["a/mine/seed0"], "b/mine": ["b/mine/seed0"]}


def test_seeds_of_one_recipe_on_two_machines_are_one_variant(tmp_path):
    write_run(tmp_path / "a", "mine", 0)
    write_run(tmp_path / "b", "mine", 1)
    assert groups(tmp_path) == {"mine": ["a/mine/seed0", "b/mine/seed1"]}


def test_other_data_make_another_variant(tmp_path):
    write_run(tmp_path, "mine", 0)
    write_run(tmp_path, "mine", 1, env={"fingerprint": "cd" * 32})
    assert list(groups(tmp_path)) == ["mine #1", "mine #2"]


def test_the_names_hold_in_every_table_and_nothing_is_lost(tmp_path):
    for folder in ("a", "b"):
        write_run(tmp_path / folder, "mine", 0, accuracy=0.5 if folder == "a" else 0.6)
    damaged = write_run(tmp_path / "c", "mine", 3)
    (damaged / "config.yaml").write_text("seed: [")
    collection = collect(tmp_path)
    named = relabelled(collection, group_runs(collection))
    assert [run.variant for run in named.runs] == ["a/mine", "b/mine"]
    assert [run.path for run in named.left_out] == ["c/mine/seed3"]


def test_keys_and_whatever_else_differs_are_tabulated(tmp_path):
    write_run(tmp_path, "plain", 0, env={"num_processes": 1})
    write_run(tmp_path, "plain", 1, env={"num_processes": 1})
    write_run(
        tmp_path, "mixup", 0, overrides=("optim.lr=0.002",), env={"num_processes": 4, "packages": {"torch": "2.11.0", "timm": "1.0.31"}}
    )
    collection = collect(tmp_path)
    rows = {row["variant"]: row for row in key_table(group_runs(collection)).rows}
    assert rows == {
        "mixup": {"variant": "mixup", "mixup.prob": "1.0", "optim.lr": "0.002"},
        "plain": {"variant": "plain", "mixup.prob": "0.0", "optim.lr": "0.0001"},
    }
    found = {(row["aspect"], row["value"]): row["num_runs"] for row in environment_table(collection.runs).rows}
    assert found == {("torch", "2.10.0"): 2, ("torch", "2.11.0"): 1, ("processes", "1"): 2, ("processes", "4"): 1}


def test_one_recipe_has_no_table_of_keys(tmp_path):
    for name in ("before", "after"):
        write_run(tmp_path, name, 0)
    assert key_table(group_runs(collect(tmp_path))).rows == []


def test_nothing_that_can_be_drawn_is_an_error(tmp_path):
    path = write_run(tmp_path, "mine", 0)
    (path / "metrics.jsonl").write_text(json.dumps({"epoch": 1}))
    with pytest.raises(UserError, match="no run with an epoch that can be read"):
        build_report(collect(tmp_path))
