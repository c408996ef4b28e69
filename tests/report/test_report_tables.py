"""The tables' numbers, worked out a second time from the run folders; CSV and Markdown hold them."""

import csv
import io
import json
import re
import statistics
from pathlib import Path

import numpy as np
import pytest
from helpers.report_runs import ACCURACIES, write_ablation, write_run
from scipy import stats

from hw1.html.table import Column, Table, format_number, to_csv, to_markdown
from hw1.report.collect import collect
from hw1.report.pair_results import compare_pairs
from hw1.report.tables import all_tables, possible_tables


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    write_ablation(root)
    write_run(root, "mine", 5)
    write_run(root, "cbam_layer1", 0, finished=False)
    write_run(root, "freeze_stem", 0, env={"fingerprint": "cd" * 32})
    return root


@pytest.fixture(scope="module")
def tables(root: Path) -> dict[str, Table]:
    collection = collect(root)
    return {table.name: table for table in all_tables(collection, compare_pairs(collection))}


def rows_of(root: Path, variant: str, seed: int) -> list[dict]:
    return [json.loads(line) for line in (root / variant / f"seed{seed}/metrics.jsonl").read_text().splitlines()]


def is_correct(root: Path, variant: str, seed: int) -> np.ndarray:
    with np.load(root / variant / f"seed{seed}/val_predictions.npz") as saved:
        return saved["logits"].argmax(1) == saved["labels"]


def test_a_pair_stands_with_mean_std_and_the_published_values(root, tables):
    plain, mixup = tables["pair_mixup"].rows
    for row, variant in [(plain, "plain"), (mixup, "mixup")]:
        runs = [rows_of(root, variant, seed) for seed in (0, 1, 2)]
        last, best = [rows[-1]["val_top1"] for rows in runs], [max(row["val_top1"] for row in rows) for rows in runs]
        assert (row["variant"], row["num_seeds"]) == (variant, 3)
        assert row["accuracy"] == pytest.approx(statistics.mean(last))
        assert row["accuracy_std"] == pytest.approx(statistics.stdev(last))
        assert row["best_accuracy"] == pytest.approx(statistics.mean(best))
        assert row["loss"] == pytest.approx(statistics.mean(rows[-1]["val_loss"] for rows in runs))
        assert row["minutes"] == pytest.approx(2.0)
        assert row["minutes_std"] == 0
        assert row["images_per_second"] == pytest.approx(102.5)
        assert row["runs"] == f"{variant}/seed0 {variant}/seed1 {variant}/seed2"
    assert (plain["published_accuracy"], plain["published_loss"]) == (0.8781, 0.7484)  # the report's Mixup figures
    assert (mixup["published_accuracy"], mixup["published_minutes"]) == (0.8740, pytest.approx(2.375 * 60))
    shown = {column.title: cell.text for column, cell in zip(tables["pair_mixup"].columns, tables["pair_mixup"].cells()[0], strict=True)}
    assert shown["accuracy, last epoch"] == f"{plain['accuracy']:.4f} ± {plain['accuracy_std']:.4f}"
    assert tables["pair_mixup"].sources == [f"{variant}/seed{seed}" for variant in ("plain", "mixup") for seed in (0, 1, 2)]


def test_verdicts_are_those_of_a_second_computation(root, tables):
    rows = {row["pair"]: row for row in tables["verdicts"].rows}
    assert list(rows) == ["mixup", "cbam", "dropout", "random_mixup", "freeze_stem"]
    p_values = {}
    for name, row in rows.items():
        if name == "freeze_stem":
            continue
        without, with_ = ([is_correct(root, row[side], seed).mean() for seed in (0, 1, 2)] for side in ("without", "with"))
        test = stats.ttest_rel(with_, without)
        interval = test.confidence_interval()
        assert row["difference_points"] == pytest.approx(100 * np.mean(np.subtract(with_, without)))
        assert (row["seeds_low"], row["seeds_high"]) == pytest.approx((100 * interval.low, 100 * interval.high))
        assert row["p"] == pytest.approx(test.pvalue)
        assert (row["num_seeds"], row["num_images"]) == (3, 300)
        p_values[name] = test.pvalue
    ordered = sorted(p_values, key=p_values.__getitem__)
    adjusted = 0.0
    for rank, name in enumerate(ordered):  # Holm: the k-th smallest of m is multiplied by m - k + 1, and never falls
        adjusted = max(adjusted, min(1.0, p_values[name] * (len(ordered) - rank)))
        assert rows[name]["p_holm"] == pytest.approx(adjusted)
        better = "better" if rows[name]["difference_points"] > 0 else "worse"
        assert rows[name]["outcome"] == (better if adjusted < 0.05 else "no significant difference")
    assert "worse" in {row["outcome"] for row in rows.values()}
    assert rows["freeze_stem"]["outcome"] == "not compared"
    assert rows["freeze_stem"]["p"] is None


def test_each_seed_has_its_own_mcnemar_test(root, tables):
    rows = [row for row in tables["seeds"].rows if row["pair"] == "dropout"]
    assert [row["seed"] for row in rows] == [0, 1, 2]
    for row in rows:
        without, with_ = is_correct(root, "mixup_cbam", row["seed"]), is_correct(root, "mixup_cbam_dropout", row["seed"])
        only_without, only_with = int((without & ~with_).sum()), int((with_ & ~without).sum())
        assert (row["only_without"], row["only_with"]) == (only_without, only_with)
        smaller, total = min(only_without, only_with), only_without + only_with
        tail = sum(stats.binom.pmf(k, total, 0.5) for k in range(smaller + 1))
        assert row["p_mcnemar"] == pytest.approx(min(1.0, 2 * tail))
        assert (row["run_without"], row["run_with"]) == (f"mixup_cbam/seed{row['seed']}", f"mixup_cbam_dropout/seed{row['seed']}")


def test_every_variant_and_run_is_there_and_mixed_data_are_named(tables):
    assert [row["variant"] for row in tables["variants"].rows] == [*ACCURACIES, "freeze_stem", "mine"]
    row = next(row for row in tables["variants"].rows if row["variant"] == "mixup_cbam_dropout")
    assert row["published"] == "0.8708 / 0.8542"  # the report's two runs of it; figure 14's 0.8781 is its run without Mixup
    assert row["pairs"] == "dropout random_mixup"
    assert len(tables["runs"].rows) == 17
    for name in ("variants", "runs", "verdicts"):
        assert any("different data: fingerprint" in line and "freeze_stem seed 0" in line for line in tables[name].notices), name
    assert tables["pair_mixup"].notices == []


def test_what_is_absent_is_named(tables):
    absent = {row["run"]: (row["status"], row["reason"]) for row in tables["absent"].rows}
    assert absent["cbam_layer1/seed0"] == ("unfinished", "3 of 4 epochs; interrupted or still running")
    assert absent["cbam_layer1"] == ("missing", "no folder for seeds 1, 2")
    assert "freeze_none" not in absent, "the section of the ablation names what was never begun"
    assert "plain" not in absent


def test_published_arithmetic_is_of_300_images_in_batches(tables):
    rows = {row["pair"]: row for row in tables["published"].rows}
    assert list(rows) == ["mixup", "cbam", "dropout", "random_mixup"]
    row = rows["random_mixup"]
    assert row["difference_points"] == pytest.approx(5.0)
    assert (row["images_without"], row["images_with"], row["images_difference"]) == ("255 or 260", "271 or 276", "+11, +16 or +21")
    assert (row["p_best_low"], row["p_best_high"]) == pytest.approx((2 * 0.5**21, 2 * 0.5**11))  # all disagreements one way
    assert (rows["cbam"]["p_best_low"], rows["cbam"]["p_best_high"]) == pytest.approx((2 * 0.5**10, 2 * 0.5**5))
    shown = {column.title: cell.text for column, cell in zip(tables["published"].columns, tables["published"].cells()[2], strict=True)}
    assert shown["p, best case"] == "0.062", "one count of images allows no range"
    assert "nine batches" not in tables["published"].note
    assert "9 batches of 32 and one of 12" in tables["published"].note


def test_verdicts_state_their_assumptions_and_which_pairs_share_runs(tables):
    table = tables["verdicts"]
    assert "independent and normal" in table.note
    assert "power of 0.8 at the level 0.05" in table.note
    [shared] = [notice for notice in table.notices if "share runs" in notice]
    assert "mixup in Mixup on every batch and CBAM after layer4" in shared
    assert "freeze_stem" not in shared
    assert "plain" not in shared, "it is in one pair alone"


def test_two_seeds_have_an_interval_but_no_p(tmp_path):
    write_ablation(tmp_path, seeds=(0, 1))
    collection = collect(tmp_path)
    results = compare_pairs(collection)
    assert {result.outcome for result in results if result.matched.runs} == {"needs three seeds"}
    for row in all_tables(collection, results)[0].rows:
        assert (row["p"], row["p_holm"], row["seeds_needed_low"]) == (None, None, None)
        assert -100 <= row["seeds_low"] < row["seeds_high"] <= 100


def test_a_backbone_is_called_by_the_model_that_was_run(tmp_path):
    for seed in (0, 1, 2):
        write_run(tmp_path, "random_mixup", seed, overrides=("model.name=resnet18_cbam",))
        write_run(tmp_path, "backbone_resnet50", seed, overrides=("model.name=resnet34",))
    collection = collect(tmp_path)
    results = {result.pair.name: result for result in compare_pairs(collection)}
    assert results["backbone_resnet50"].title == "resnet34 instead of resnet18_cbam"
    text = "".join(to_markdown(table) for table in all_tables(collection, list(results.values())) if table.name != "absent")
    assert "ResNet50" not in text
    assert not [result.title for result in results.values() if "ResNeXt101" in result.title]


def test_names_are_those_that_a_new_report_may_replace(tables):
    assert set(tables) <= set(possible_tables())


# -------------------------------------------------------------------------------------------------------- CSV, Markdown


def test_csv_holds_every_number_unrounded(tables):
    for table in tables.values():
        read = list(csv.DictReader(io.StringIO(to_csv(table))))
        assert len(read) == len(table.rows)
        for found, row in zip(read, table.rows, strict=True):
            assert list(found) == list(row)
            for key, value in row.items():
                if isinstance(value, float):
                    assert float(found[key]) == value
                else:  # text that begins with a sign would be a formula to a spreadsheet, unless it is a number
                    text = "" if value is None else str(value)
                    is_formula = isinstance(value, str) and bool(re.match(r"[-+](?!\d+$)", value))
                    assert found[key] == (f"'{text}" if is_formula else text)


def test_markdown_tables_are_whole(tables):
    for table in tables.values():
        text = to_markdown(table)
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert len(lines) == len(table.rows) + 2
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table.columns) + 1}
        assert all(source in text for source in table.sources)
        assert all(f"> **Note:** {notice}" in text for notice in table.notices)


def test_markdown_escapes_what_would_break_it():
    table = Table("t", "T", [Column("a", "a|b")], [{"a": "x|y\\<b>\nz"}])
    assert "| a\\|b |\n|---|\n| x\\|y\\\\&lt;b> z |\n" in to_markdown(table)


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [
        (-1.25, 1, True, "−1.2"),
        (1.26, 1, True, "+1.3"),
        (-0.0004, 2, True, "0.00"),
        (1234567.0, 0, False, "1,234,567"),
        (float("nan"), 2, False, "nan"),
    ],
)
def test_numbers_are_shown_with_a_real_minus(value, digits, signed, text):
    assert format_number(value, digits, signed=signed) == text


def test_a_small_p_is_not_shown_as_none():
    table = Table("t", "T", [Column("p", "p", 3)], [{"p": p} for p in (0.0, 0.0004, 0.0006, 1.0)])
    assert [cells[0].text for cells in table.cells()] == ["0.000", "< 0.001", "0.001", "1.000"]
    assert [cells[0].value for cells in table.cells()] == [0.0, 0.0004, 0.0006, 1.0]


def test_an_interval_may_be_open_or_a_point():
    table = Table("t", "T", [Column("low", "n", 0, upper="high")], [{"low": 5, "high": end} for end in (115, None, 5)])
    assert [cells[0].text for cells in table.cells()] == ["5 to 115", "5 or more", "5"]
