"""The evaluation of a run as files and as a page in a real browser; predictions are drawn at random, images are coloured squares."""

import csv
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.report_runs import write_run
from PIL import Image
from scipy import stats
from sklearn import metrics

from hw1.data.image_folder import ImageSet
from hw1.errors import RunError
from hw1.evaluation.report.analysis import Analysis, analyse
from hw1.evaluation.report.examples import choose_examples
from hw1.evaluation.report.page import calibration_sentences, mistakes_sentence
from hw1.evaluation.report.write import evaluation_files
from hw1.plots import plot_curves, save_figure
from hw1.runs.folder import RunFolder
from hw1.utils.files import write_folder

NUM, CLASSES = 240, 24
NAMES = ['<b>&amp; "x"</b>', "$\\frac{$", "", *(f"class {c}" for c in range(3, CLASSES))]
FACTS = {"checkpoint": "best", "epoch": 4}


def random_predictions(seed: int = 0, sure: float = 9.0) -> tuple[np.ndarray, np.ndarray]:
    """Two in three are right; of class 5 all but two are taken for class 7."""
    rng = np.random.default_rng(seed)
    labels = np.arange(NUM, dtype=np.int64) % CLASSES
    predicted = np.where(rng.random(NUM) < 0.67, labels, rng.integers(0, CLASSES, NUM))
    predicted[np.flatnonzero(labels == 5)] = [7] * 8 + [5] * 2
    logits = rng.normal(0, 1, (NUM, CLASSES)).astype(np.float32)
    logits[np.arange(NUM), predicted] += sure
    return logits, labels


def write_images(root: Path, labels: np.ndarray) -> ImageSet:
    files = tuple(f"val/{label}/{i:04}.jpg" for i, label in enumerate(labels))
    for i, file in enumerate(files):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300 if i % 2 else 40, 200), (i, 255 - i, 90)).save(root / file)
    return ImageSet(root, files, labels, 0)


def analyse_logits(logits: np.ndarray, labels: np.ndarray, **options: Any) -> Analysis:
    return analyse(logits, labels, [f"{i}.jpg" for i in range(len(labels))], NAMES, FACTS, **options)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation, written over an older one."""
    root = tmp_path_factory.mktemp("evaluation")
    run = RunFolder(write_run(root / "runs", "plain", 0))
    save_figure(plot_curves(run.read_metrics()), run.curves)
    logits, labels = random_predictions()
    images = write_images(root / "data", labels)
    analysis = analyse(logits, labels, images.files, NAMES, FACTS, fit_temperature=True)
    out = run.eval_dir("val")
    write_folder(out, evaluation_files(run, "val", images, logits, analysis, plot_curves(run.read_metrics())))
    return out


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_metrics_are_scikit_learns(written):
    logits, labels = random_predictions()
    predicted = logits.argmax(1)
    saved = json.loads((written / "metrics.json").read_text())
    assert saved["top1"] == metrics.accuracy_score(labels, predicted)
    assert saved["top5"] == pytest.approx(metrics.top_k_accuracy_score(labels, logits, k=5))
    assert saved["loss"] == pytest.approx(
        metrics.log_loss(labels, np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(1)[:, None])
    )
    assert saved["macro_f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert saved["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    wilson = stats.binomtest(int((predicted == labels).sum()), NUM).proportion_ci(method="wilson")
    assert saved["top1_interval"] == pytest.approx([wilson.low, wilson.high])
    assert (saved["checkpoint"], saved["epoch"], saved["temperature"]) == ("best", 4, 1.0)


def test_worst_files_come_first_and_all_are_there(written):
    logits, labels = random_predictions()
    rows = read_csv(written / "worst.csv")
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert len({row["file"] for row in rows}) == NUM
    wide = np.exp(logits.astype(np.float64))
    for row in rows[:20]:
        i = int(Path(row["file"]).stem)
        probabilities = wide[i] / wide[i].sum()
        assert row["class"] == (NAMES[labels[i]] or "2")
        assert row["guess"] == (NAMES[logits[i].argmax()] or "2")
        assert float(row["confidence"]) == pytest.approx(probabilities.max())
        assert float(row["loss"]) == pytest.approx(-np.log(probabilities[labels[i]]))


def test_confused_pairs_are_counted(written):
    logits, labels = random_predictions()
    rows = read_csv(written / "confused.csv")
    first = rows[0]
    assert (first["class"], first["guess"], first["images"], first["support"]) == ("class 5", "class 7", "8", "10")
    assert float(first["share"]) == 0.8
    assert sum(int(row["images"]) for row in rows) == (logits.argmax(1) != labels).sum()


def test_examples_are_of_the_pairs_and_of_the_worst(tmp_path):
    logits, labels = random_predictions()
    images, analysis = write_images(tmp_path, labels), analyse_logits(logits, labels)
    examples = choose_examples(analysis, images)
    pair, mistaken, compared = examples.pairs[0]
    assert (pair.label, pair.predicted) == (5, 7)
    assert [(labels[i], logits[i].argmax()) for i in mistaken] == [(5, 7)] * 3
    assert analysis.losses[mistaken].min() >= np.sort(analysis.losses[(labels == 5) & (analysis.predicted == 7)])[-3]
    assert [labels[i] for i in compared] == [7] * 3
    assert all(analysis.predicted[i] != labels[i] for i in examples.worst)
    assert all(max(pixels.shape[:2]) == 160 for pixels in examples.pixels.values())
    index = examples.worst[0]
    assert np.abs(examples.pixels[index][40, 20].astype(int) - [index, 255 - index, 90]).max() < 8, "the image of this very file"
    (tmp_path / images.files[index]).unlink()
    with pytest.raises(RunError, match=re.escape(images.files[index])):
        choose_examples(analysis, images)


def test_figures_are_whole_and_what_is_out_of_date_is_gone(written, tmp_path):
    for name in ("confusion", "calibration", "confused", "worst", "attention"):
        with Image.open(written / f"{name}.png") as image:
            image.verify()
    assert not list(written.glob(".*.tmp"))
    assert (written / "index.html").stat().st_size < 3_000_000
    labels = np.arange(6, dtype=np.int64)
    logits = (np.eye(CLASSES)[labels] * 9).astype(np.float32)
    run = RunFolder(write_run(tmp_path / "runs", "plain", 0))
    run.eval_dir("val").mkdir(parents=True)
    for name in ("worst.png", "attention.png"):
        (run.eval_dir("val") / name).write_bytes(b"of an earlier one")
    analysis = analyse_logits(logits, labels, fit_temperature=True)
    write_folder(run.eval_dir("val"), evaluation_files(run, "val", write_images(tmp_path, labels), logits, analysis))
    assert not {"worst.png", "attention.png"} & {path.name for path in run.eval_dir("val").iterdir()}
    page = (run.eval_dir("val") / "index.html").read_text()
    assert "There is no mistake." in page
    assert "<h3>Attention</h3>" not in page


def test_a_temperature_changes_confidences_but_no_prediction_and_not_the_calibration():
    logits, labels = random_predictions()
    plain, cooled = (
        analyse_logits(logits, labels, fit_temperature=True),
        analyse_logits(logits, labels, temperature=4.0, fit_temperature=True),
    )
    assert cooled.metrics["top1"] == plain.metrics["top1"]
    assert cooled.metrics["temperature"] == 4.0
    assert cooled.confidence.max() < plain.confidence.max()
    assert cooled.metrics["loss"] != plain.metrics["loss"]
    assert cooled.calibration == plain.calibration
    assert analyse_logits(logits, labels, temperature=plain.calibration.temperature).metrics["loss"] == plain.calibration.in_sample["nll"]
    other = analyse_logits(logits, labels, fitted_temperature=3.0)
    assert (other.calibration.temperature, other.calibration.cross_fitted) == (3.0, False)


def test_logits_that_are_not_finite_are_an_error():
    logits, labels = random_predictions()
    logits[7, 3] = np.nan
    with pytest.raises(RunError, match=r"7\.jpg: .* not a finite number, as for 1 of 240"):
        analyse_logits(logits, labels)


def test_sentences_state_the_numbers():
    logits, labels = random_predictions()
    analysis = analyse_logits(logits, labels, fit_temperature=True)
    first, second = calibration_sentences(analysis.calibration, 500)
    assert "too high" in first
    assert f"to {analysis.calibration.after['ece']:.3f}" in second
    low = analyse_logits(*random_predictions(sure=2.5), fit_temperature=True).calibration
    assert low.before["confidence"] < low.before["accuracy"]
    assert "too low" in calibration_sentences(low, NUM)[0]
    assert calibration_sentences(low, NUM)[2] == f"It is not offered: fitted on {NUM} images, of which it takes 500."
    calm = replace(analysis.calibration, chance=(0.2, 1.0), after=None)
    [sentence] = calibration_sentences(calm, NUM)
    assert "The confidences hold" in sentence
    weakest = min(analysis.class_metrics, key=lambda row: row["recall"])
    assert f"class {weakest['class']}: {100 * weakest['recall']:.1f}%" in mistakes_sentence(analysis)


# ------------------------------------------------------------------------------------------------------------ browser


@pytest.fixture
def open_page(open_file, written) -> Callable[..., Any]:
    return partial(open_file, written / "index.html")


def test_the_page_shows_headline_examples_and_figures(open_page, written):
    page = open_page()
    saved = json.loads((written / "metrics.json").read_text())
    assert [section.get_attribute("id") for section in page.locator("main > section").all()] == [
        "result", "mistakes", "confidence", "classes", "run",
    ]  # fmt: skip
    assert f"{round(saved['top1'] * NUM)} of {NUM} images are right" in page.locator(".headline").inner_text()
    tile = page.locator(".tile").first.inner_text()
    low, high = saved["top1_interval"]
    assert f"{saved['top1']:.4f}" in tile
    assert f"{low:.4f} to {high:.4f}" in tile
    sizes = page.evaluate("Promise.all([...document.querySelectorAll('main img')].map(async i => (await i.decode(), i.naturalWidth)))")
    assert len(sizes) > 24
    assert min(sizes) > 20
    assert page.locator("figure .plot").count() == 4
    fits = page.evaluate("[...document.querySelectorAll('.plot img')].map(image => getComputedStyle(image).objectFit)")
    assert fits == ["contain"] * 4, "a high figure is not stretched"
    assert "class 5 taken for class 7" in page.locator(".pair").first.inner_text()
    assert "8 of 10, 80%" in page.locator(".pair").first.inner_text()
    worst = read_csv(written / "worst.csv")[0]["file"]
    assert worst in page.locator(".thumbs.many figure").first.inner_text()


def test_tables_open_sort_and_are_saved(open_page, written):
    page = open_page()
    assert page.locator("#table-per_class").is_visible()
    page.locator("#table-per_class th:nth-child(3) button").click()
    recalls = [float(text) for text in page.locator("#table-per_class td:nth-child(3)").all_inner_texts()]
    assert len(recalls) == CLASSES
    assert recalls == sorted(recalls)
    with page.expect_download() as download:
        page.locator("#table-per_class a[download]").click()
    assert Path(download.value.path()).read_bytes() == (written / "per_class.csv").read_bytes()


def test_class_names_are_shown_and_not_run(open_page):
    page = open_page()
    names = page.locator("#table-per_class td:nth-child(1)").all_inner_texts()
    assert names == [name or "2" for name in NAMES]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways_and_images_keep_their_colours(open_page, scheme):
    page = open_page(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True, color_scheme=scheme)
    for summary in page.locator("details > summary").all():
        summary.click()
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [390, 390]
    tops = page.evaluate("[...document.querySelector('.pair .thumbs').children].map(figure => figure.getBoundingClientRect().top)")
    assert len(tops) == 3
    assert len(set(tops)) == 1, "three images stand side by side"
    filters = page.evaluate("['.example img', '.plot img'].map(s => getComputedStyle(document.querySelector(s)).filter)")
    assert filters[0] == "none"
    assert (filters[1] == "none") == (scheme == "light")


BROKEN_WORDS = """() => [...document.querySelectorAll('.example b, .example span, .card h3')].flatMap(element => {
    const text = document.createTreeWalker(element, NodeFilter.SHOW_TEXT).nextNode(), range = document.createRange(), broken = [];
    for (const word of text.data.matchAll(/\\S+/g)) {
        range.setStart(text, word.index); range.setEnd(text, word.index + word[0].length);
        if (new Set([...range.getClientRects()].map(box => box.top)).size > 1) broken.push(word[0]);
    }
    return broken; })"""
WIDER = """() => [...document.querySelectorAll('main *')].filter(element => {
    const style = getComputedStyle(element);
    const scrolls = ['auto', 'scroll', 'hidden'].includes(style.overflowX);
    return style.display !== 'inline' && !scrolls && element.clientWidth && element.scrollWidth > element.clientWidth + 1;
}).map(element => element.outerHTML.slice(0, 80))"""


def test_nothing_is_wider_than_its_box_and_no_word_of_a_card_is_broken(open_page):
    """At the widths of a desk and of a phone, with a name of 20 letters."""
    for width in (1400, 390):
        page = open_page(viewport={"width": width, "height": 900})
        assert page.evaluate(WIDER) == []
        if width == 1400:
            page.evaluate("document.querySelectorAll('.example b, .card h3').forEach(each => each.prepend('electric_guitar_solo '))")
            assert page.evaluate(BROKEN_WORDS) == []
            page.evaluate("document.querySelectorAll('.thumbs').forEach(each => each.style.gridTemplateColumns = 'repeat(9, 1fr)')")
            assert page.evaluate(BROKEN_WORDS) != []  # it would be seen


def test_the_ablation_report_links_the_page(written, tmp_path, open_file):
    from hw1.errors import run_command
    from hw1.report.__main__ import main

    runs = written.parents[3]
    assert run_command(main, [str(runs), "--out", str(tmp_path / "out")]) == 0
    page = open_file(tmp_path / "out" / "report.html")
    page.locator("details.run summary").click()
    link = page.locator("details.run a").get_attribute("href")
    assert os.path.samefile(tmp_path / "out" / link, written / "index.html")
