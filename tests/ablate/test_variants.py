"""The pairs against the report's own tables, and against the recipes as they resolve."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from helpers.paths import ROOT

from hw1.ablate.variants import (
    COMBINED,
    EXTRA_PAIRS,
    NUM_PUBLISHED_EPOCHS,
    NUM_PUBLISHED_IMAGES,
    PAIRS,
    REPORT_PAIRS,
    VARIANTS,
    Pair,
    Published,
    tags_of,
)
from hw1.config.load import load_recipe

FOLDER = ROOT / "recipes" / "ablations"

# The report's results, at the last epoch: pair, then with / without of val accuracy, val loss, hours.
RESULTS = """
mixup        | 0.8740 / 0.8781 | 0.5926 / 0.7484 | 2.375 h / 2.335 h
cbam         | 0.8531 / 0.8740 | 0.6662 / 0.5926 | 2.465 h / 2.375 h
dropout      | 0.8708 / 0.8552 | 0.5918 / 0.6735 | 2.305 h / 2.306 h
random_mixup | 0.9042 / 0.8542 | 0.5752 / 0.6237 | 2.305 h / 2.413 h
"""
# What each pair holds fixed, and what it changes (without / with): CBAM, dropout after layer3, probability of Mixup.
HELD = {
    "mixup": ("no", "no", (0.0, 1.0)),
    "cbam": (("no", "yes"), "no", 1.0),
    "dropout": ("yes", ("no", "yes"), 1.0),
    "combined": ("yes", "yes", 1.0),
    "random_mixup": ("yes", "yes", (1.0, 0.5)),
}
# Training curves without and with; accuracy and loss of both.
FIGURES = {"mixup": ((1, 2), (3, 4)), "cbam": ((5, 6), (7, 8)), "dropout": ((9, 10), (11, 12)), "random_mixup": ((15, 16), (17, 18))}


def flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@cache
def resolved(name: str, folder: str = "recipes/ablations") -> dict[str, Any]:
    """Every key of the variant's recipe but its name, and where trackers show it."""
    keys = dict(flat(load_recipe(ROOT / folder / f"{name}.yaml").model_dump()))
    assert keys.pop("run.name") == name
    return {key: value for key, value in keys.items() if not key.startswith("log.")}


def header(name: str) -> str:
    return "".join(line for line in (FOLDER / f"{name}.yaml").read_text().splitlines(keepends=True) if line.startswith("#"))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_pair_differs_in_exactly_its_one_factor(pair: Pair):
    without, with_ = resolved(pair.without), resolved(pair.with_)
    assert without.keys() == with_.keys()
    assert [key for key in without if without[key] != with_[key]] == list(pair.factor)
    assert len(pair.factor) == 1


def test_every_variant_is_a_recipe_and_every_recipe_a_variant_of_some_pair():
    assert {path.stem for path in FOLDER.iterdir()} == set(VARIANTS) == {name for pair in PAIRS for name in (pair.without, pair.with_)}
    assert all(name == variant.name and variant.title for name, variant in VARIANTS.items())


def test_no_two_variants_are_the_same_experiment_and_no_two_pairs_the_same_comparison():
    recipes = [resolved(name) for name in VARIANTS]
    assert all(a != b for n, a in enumerate(recipes) for b in recipes[:n])
    assert len({frozenset((pair.without, pair.with_)) for pair in PAIRS}) == len({pair.name for pair in PAIRS}) == len(PAIRS)


@pytest.mark.parametrize("line", RESULTS.strip().splitlines(), ids=lambda line: line.partition(" ")[0])
def test_published_numbers_are_the_reports(line):
    name, *columns = (part.strip() for part in line.split("|"))
    [pair] = [pair for pair in REPORT_PAIRS if pair.name == name]
    with_, without = zip(*[[float(number) for number in re.findall(r"\d\.\d+", column)] for column in columns], strict=True)
    assert pair.published_with == Published(*with_)
    assert pair.published_without == Published(*without)


def test_the_report_has_these_pairs_and_a_combined_model():
    assert [pair.name for pair in REPORT_PAIRS] == [line.partition(" ")[0] for line in RESULTS.strip().splitlines()]
    assert COMBINED.figures == (13, 14)
    assert NUM_PUBLISHED_IMAGES == 300


@pytest.mark.parametrize("name", HELD)
def test_variants_are_what_the_report_compared(name):
    sides = [COMBINED.variant] * 2 if name == "combined" else next([pair.without, pair.with_] for pair in REPORT_PAIRS if pair.name == name)
    for side, variant in enumerate(sides):
        cbam, dropout, prob = (value[side] if isinstance(value, tuple) else value for value in HELD[name])
        recipe = resolved(variant)
        assert recipe["model.cbam_stages"] == {"no": (), "yes": (4,)}[cbam]
        assert recipe["model.drop_layer3"] == {"no": 0.0, "yes": 0.2}[dropout]
        assert (recipe["mixup.prob"], recipe["mixup.alpha"]) == (prob, 0.2)


def test_everything_that_no_pair_is_about_is_the_reports_best_setting():
    base = dict(flat(load_recipe(ROOT / "recipes/base.yaml").model_dump()))
    factors = {key for pair in PAIRS for key in pair.factor}
    for name in VARIANTS:
        assert {key for key, value in resolved(name).items() if value != base[key]} <= factors


@pytest.mark.parametrize(
    ("name", "same"),
    [("random_mixup", "base"), ("backbone_resnet50", "resnet50"), ("backbone_resnext50", "resnext50")],
)
def test_some_variants_are_recipes_that_there_are_already(name, same):
    assert resolved(name) == resolved(same, "recipes")


def test_extra_variants_are_what_their_names_say():
    stages = {name: resolved(name)["model.cbam_stages"] for name in VARIANTS if name.startswith("cbam_layer")}
    assert stages == {"cbam_layer1": (1,), "cbam_layer2": (2,), "cbam_layer3": (3,)}
    assert resolved("cbam_identity")["model.cbam_init"] == "identity"
    frozen = {name: resolved(name)["freeze.stages"] for name in ("freeze_none", "random_mixup", "freeze_stem")}
    assert frozen == {"freeze_none": (), "random_mixup": ("layer1", "layer2"), "freeze_stem": ("stem", "layer1", "layer2")}


def test_figures_are_the_reports_eighteen():
    assert {pair.name: (pair.figures[:2], pair.figures[2:]) for pair in REPORT_PAIRS} == FIGURES
    assert sorted([number for pair in REPORT_PAIRS for number in pair.figures] + list(COMBINED.figures)) == list(range(1, 19))
    assert all(pair.figures == () and pair.published_with is pair.published_without is None for pair in EXTRA_PAIRS)


def test_one_configuration_was_published_with_several_results():
    published = {name: [run.accuracy for run in variant.published] for name, variant in VARIANTS.items() if variant.published}
    assert published == {
        "plain": [0.8781],
        "mixup": [0.8740],  # one run in two pairs
        "mixup_cbam": [0.8531, 0.8552],
        "mixup_cbam_dropout": [0.8708, 0.8542],
        "random_mixup": [0.9042],
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_a_header_names_the_figures_and_the_published_numbers(name):
    figures = {number for pair in REPORT_PAIRS if pair.figures for number in _figures_of(pair, name)}
    if name == COMBINED.variant:
        figures |= set(COMBINED.figures)
    named = [int(number) for group in re.findall(r"Figures ([\d, and]+)", header(name)) for number in re.findall(r"\d+", group)]
    assert sorted(figures) == named
    assert all(a < b for a, b in pairwise(named))
    runs = VARIANTS[name].published
    numbers = [f"{run.accuracy:.4f}" for run in runs] + [f"{run.loss:.4f}" for run in runs] + [f"{run.hours}" for run in runs]
    assert sorted(re.findall(r"\d\.\d{3,}", header(name))) == sorted(numbers)
    assert ("the report has no number for it" in header(name)) == (not runs)
    assert header(name).count(f"h for {NUM_PUBLISHED_EPOCHS} epochs") == len(runs)


def _figures_of(pair: Pair, name: str) -> list[int]:
    """Those in which a variant is drawn: its own training curve, and the two with both variants."""
    curves = dict(zip((pair.without, pair.with_), pair.figures[:2], strict=True))
    return [curves[name], *pair.figures[2:]] if name in curves else []


def test_the_variant_and_its_pairs_are_tags():
    assert tags_of("mixup") == ("mixup", "pair:mixup", "pair:cbam")
    assert tags_of("my_recipe") == ("my_recipe",)
    for pair in PAIRS:
        shared = set(tags_of(pair.without)) & set(tags_of(pair.with_))
        assert shared == {f"pair:{pair.name}"}
