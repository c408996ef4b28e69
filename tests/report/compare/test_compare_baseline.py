"""Variants against a baseline: the numbers a second time, and which of them are adjusted."""

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.report_runs import write_run
from PIL import Image
from scipy import stats

from hw1.html.table import to_markdown
from hw1.report.collect import collect
from hw1.report.compare import baseline
from hw1.report.compare.baseline import Comparisons, compare_variants, comparison_tables
from hw1.report.compare.changed_images import changed_images
from hw1.report.compare.class_gains import class_gains, class_sentence, class_table
from hw1.report.compare.variants import group_runs, relabelled

ACCURACIES = {"alpha": 0.6, "beta": 0.62, "gamma": 0.7, "delta": 0.5}
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for name, accuracy in ACCURACIES.items():
        for seed in SEEDS:
            write_run(root, name, seed, accuracy + 0.005 * seed, overrides=(f"optim.lr={accuracy}",))
    return root


def compared(root: Path, name: str | None = None) -> Comparisons:
    collection = collect(root)
    variants = group_runs(collection)
    return compare_variants(relabelled(collection, variants), variants, name)


def is_correct(root: Path, variant: str) -> np.ndarray:
    logits, labels = [], None
    for seed in SEEDS:
        with np.load(root / variant / f"seed{seed}/val_predictions.npz") as saved:
            logits.append(saved["logits"].argmax(1))
            labels = saved["labels"]
    return np.stack(logits) == labels


def p_values(root: Path, base: str) -> dict[str, float]:
    means = {name: is_correct(root, name).mean(axis=1) for name in ACCURACIES}
    return {name: stats.ttest_rel(means[name], means[base]).pvalue for name in ACCURACIES if name != base}


def test_without_a_name_the_first_is_the_baseline_and_nothing_is_adjusted(root):
    found = compared(root)
    assert found.baseline.name == "alpha"
    for result in found.results:
        assert result.verdict.p_adjusted == pytest.approx(p_values(root, "alpha")[result.pair.with_])
        assert result.verdict.num_tests == 1
    assert "not adjusted for the 3 comparisons" in found.adjustment
    table = comparison_tables(found)[0]
    assert "Holm" not in to_markdown(table)
    assert [row["p"] for row in table.rows] == pytest.approx([p_values(root, "alpha")[row["with"]] for row in table.rows])
    assert "p_holm" not in table.rows[0]


def test_with_a_name_holm_is_over_the_comparisons_that_were_asked_for(root):
    found = compared(root, "beta")
    raw = p_values(root, "beta")
    adjusted, expected = 0.0, {}
    for rank, name in enumerate(sorted(raw, key=raw.__getitem__)):
        adjusted = max(adjusted, min(1.0, raw[name] * (3 - rank)))
        expected[name] = adjusted
    assert {result.pair.with_: result.verdict.p_adjusted for result in found.results} == pytest.approx(expected)
    assert found.adjustment == "p-values are adjusted by Holm for the 3 comparisons with beta that were asked for."
    table = comparison_tables(found)[0]
    assert (table.name, [row["with"] for row in table.rows]) == ("comparisons", ["alpha", "delta", "gamma"])
    assert found.adjustment in table.note
    assert "at the level 0.05 (of seeds 0.05/3, for Holm)" in table.note
    assert {row["with"]: row["p_holm"] for row in table.rows} == pytest.approx(expected)


def test_too_many_are_not_compared_unasked(root, monkeypatch):
    monkeypatch.setattr(baseline, "MAX_UNASKED", 2)
    found = compared(root)
    assert (found.results, found.adjustment[:46]) == ([], "4 variants are too many to compare unasked; --")
    assert len(compared(root, "alpha").results) == 3


def test_the_same_recipe_with_other_code_is_compared_and_the_code_named(tmp_path):
    for seed in SEEDS:
        write_run(tmp_path, "before", seed)
        write_run(tmp_path, "after", seed, 0.71 + 0.01 * seed, env={"git": {"commit": "ff" * 20, "modified": False}})
    (result,) = compared(tmp_path, "before").results
    assert result.verdict is not None
    assert any("different code" in line for line in result.matched.notices)


def test_other_images_or_no_common_seed_are_not_compared(tmp_path):
    write_run(tmp_path, "alpha", 0)
    write_run(tmp_path, "beta", 0, num_images=290, overrides=("optim.lr=1.0",))
    write_run(tmp_path, "gamma", 5, overrides=("optim.lr=2.0",))
    found = {result.pair.with_: result for result in compared(tmp_path).results}
    assert (found["beta"].verdict, found["gamma"].verdict) == (None, None)
    assert "290 images" in found["beta"].sentence
    assert found["gamma"].matched.obstacles == ["no seed has finished in both alpha and gamma"]


def test_recall_of_each_class_is_that_of_a_second_computation(root):
    found = compared(root, "alpha")
    labels = np.arange(300) % 10
    table = {row["class"]: row for row in class_table(found).rows}
    for result in found.results:
        with_, without = is_correct(root, result.pair.with_), is_correct(root, "alpha")
        for c in range(10):
            base, change = without[:, labels == c].mean(), with_[:, labels == c].mean() - without[:, labels == c].mean()
            assert class_gains(result)[c] == pytest.approx(change)
            assert table[str(c)]["recall"] == pytest.approx(base)
            assert table[str(c)][f"change_{result.pair.with_}"] == pytest.approx(100 * change)
    assert {row["num_images"] for row in table.values()} == {30}
    gamma = next(result for result in found.results if result.pair.with_ == "gamma")
    best = int(np.argmax(class_gains(gamma)))
    assert f"gain most: {best} +" in class_sentence(gamma)


def test_classes_of_many_variants_are_in_the_file_and_the_page_says_so(root, monkeypatch):
    assert "variants" not in class_table(compared(root)).note
    monkeypatch.setattr("hw1.report.compare.class_gains.MAX_SHOWN", 2)
    table = class_table(compared(root))
    assert table.note.endswith(" The first 2 of 3 variants; the CSV file has all.")
    assert [column.key for column in table.columns[3:]] == ["change_beta", "change_delta"]
    assert "change_gamma" in table.rows[0]


def test_images_that_change_are_counted_over_all_seeds(root):
    found = compared(root, "alpha")
    for item in changed_images(found.results):
        without, with_ = is_correct(root, "alpha"), is_correct(root, item.result.pair.with_)
        assert item.num_fixed == (~without.any(axis=0) & with_.all(axis=0)).sum()
        assert item.num_broken == (without.all(axis=0) & ~with_.any(axis=0)).sum()
        files = [f"val/{i % 10}/{i:04}.jpg" for i in range(300)]
        for image in item.fixed:
            position = files.index(image.file)
            assert with_[:, position].sum() - without[:, position].sum() == image.seeds
            assert image.label == str(position % 10)
            assert image.with_.startswith(f"{position % 10}, ")
        assert [image.seeds for image in item.broken] == sorted((image.seeds for image in item.broken), reverse=True)
        assert {image.jpeg for image in (*item.fixed, *item.broken)} == {b""}, "photos/ is not there"


def test_photographs_are_shown_while_they_are_in_the_data_root_and_nothing_from_elsewhere(tmp_path):
    photos = tmp_path / "photos"
    runs = [write_run(tmp_path / "runs", name, 0, accuracy, overrides=(f"data.root={photos}", f"optim.lr={accuracy}"))
            for name, accuracy in (("alpha", 0.5), ("beta", 0.7))]  # fmt: skip
    for place in (photos / "val", tmp_path / "outside"):
        for i in range(300):
            (place / str(i % 10)).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (300, 200), (200, 30, 30)).save(place / str(i % 10) / f"{i:04}.jpg")
    (item,) = changed_images(compared(tmp_path / "runs").results)
    with Image.open(io.BytesIO(item.fixed[0].jpeg)) as thumbnail:
        assert thumbnail.size == (160, 107)
        assert abs(thumbnail.getpixel((80, 50))[0] - 200) < 10
    for run in runs:
        with np.load(run / "val_predictions.npz") as saved:
            arrays = dict(saved)
        files = np.array([name.replace("val/", "../outside/") for name in arrays["files"]])
        np.savez(run / "val_predictions.npz", **(arrays | {"files": files}))
    (item,) = changed_images(compared(tmp_path / "runs").results)
    assert item.fixed[0].file.startswith("../outside/")
    assert {image.jpeg for image in (*item.fixed, *item.broken)} == {b""}
