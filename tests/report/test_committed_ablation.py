"""The committed report of our own runs, and the pages that quote it, say what today's code makes of its numbers."""

import csv
import re
from pathlib import Path

import pytest
from helpers.paths import ROOT

from benchmarks.accuracy.ablation_tables import FOLDER, rebuild
from hw1.ablate.variants import REPORT_PAIRS
from hw1.report.pair_results import published_of
from hw1.report.published import list_numbers


@pytest.fixture(scope="module")
def rebuilt() -> dict[str, bytes]:
    return rebuild(FOLDER)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["verdicts.csv", "published.csv", "tables.md"])
def test_it_is_what_today_s_code_makes_of_its_seeds(rebuilt, name):
    assert (FOLDER / name).read_bytes() == rebuilt[name]


def test_its_verdicts_are_those_of_the_seeds_by_hand():
    rows = {row["pair"]: row for row in rows_of(FOLDER / "verdicts.csv")}
    for name, row in rows.items():
        differences = [float(seed["difference_points"]) for seed in rows_of(FOLDER / "seeds.csv") if seed["pair"] == name]
        assert float(row["difference_points"]) == pytest.approx(sum(differences) / 5)
        assert int(row["num_seeds"]) == len(differences) == 5
    assert {name: row["outcome"] for name, row in rows.items() if row["outcome"] != "no significant difference"} == {
        "cbam": "worse", "dropout": "worse", "cbam_identity": "better",
    }  # fmt: skip


def test_the_readme_quotes_the_sizes_of_the_verdicts():
    text = " ".join((FOLDER / "README.md").read_text().split())
    for row in rows_of(FOLDER / "verdicts.csv"):
        if row["outcome"] == "no significant difference":
            assert f"{row['seeds_needed_low']} to {row['seeds_needed_high']} seeds" in text
        assert f"{abs(float(row['difference_points'])):.1f} points" in text


def test_pages_quote_the_published_differences_as_ranges():
    page = (ROOT / "docs/research/ablations.md").read_text()
    for pair in REPORT_PAIRS:
        verdict, without, with_ = published_of(pair), pair.published_without, pair.published_with
        gaps = list_numbers((counts.difference for counts in verdict.counts), signed=True).replace("-", "−")
        [line] = re.findall(rf"^\| .* \| {without.accuracy:.4f} → {with_.accuracy:.4f} \| (.*) \|$", page, re.MULTILINE)
        shown_gaps, independent, best = line.split(" | ")
        assert shown_gaps == gaps
        for text in (independent, best):
            assert all(number in verdict.sentence for number in re.findall(r"0\.\d+(?:-0\.\d+)?", text))


def test_no_page_has_the_combined_model_s_number_or_one_count():
    pages = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("docs/**/*.csv"), *ROOT.glob("recipes/**/*.yaml"), ROOT / "README.md"]
    for page in pages:
        text = page.read_text()
        assert "0.8542 / 0.8781" not in text, page
        assert not re.search(r"about \d+ of 300 images", text), page
    assert "0.8781" not in (ROOT / "recipes/ablations/mixup_cbam_dropout.yaml").read_text()
