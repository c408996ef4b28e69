"""The page as a reader meets it: in a real browser, from disk, without internet. The command that made it, too."""

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers.report_runs import ROOT, write_ablation, write_run
from helpers.wandb_files import Recorded
from PIL import Image

from hw1.report.compare.curves import PAPER_FIGURES
from hw1.report.figures import NAMES

NASTY = "<img src=x onerror=\"document.title='broken'\"> & | `CPU`"


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report's folder, made by the command over an older report; RUNS_DIR is unchanged and torch was not loaded."""
    runs, out = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("parent") / "out"
    write_ablation(runs)
    write_run(runs, "cbam_layer1", 0, env={"cpu": NASTY})
    write_run(runs, "cbam_layer2", 0, finished=False)
    before = snapshot(runs)
    out.mkdir()
    (out / "pair_freeze_none.csv").write_text("of an earlier report")
    (out / "mine.txt").write_text("not the report's")
    code = (
        "import sys; from hw1.report.__main__ import main; from hw1.errors import run_command\n"
        f"code = run_command(main, [{str(runs)!r}, '--out', {str(out)!r}, '--wandb', 'offline'])\n"
        "assert not {'torch', 'matplotlib.pyplot'} & sys.modules.keys(); sys.exit(code)"
    )
    home = os.environ | {"HOME": str(tmp_path_factory.mktemp("home"))}  # wandb keeps copies there
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=home, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert snapshot(runs) == before
    (out / "stdout.txt").write_text(done.stdout)
    (out / "stderr.txt").write_text(done.stderr)
    return out


def test_the_command_prints_verdicts_and_left_out_runs(report):
    stdout, stderr = (report / "stdout.txt").read_text(), (report / "stderr.txt").read_text()
    assert "CBAM after layer4: " in stdout
    assert f"{report / 'report.html'}: 16 finished runs, 1 left out, 7 variants; 25 figures" in stdout
    assert "cbam_layer2/seed0: unfinished: 3 of 4 epochs" in stderr
    assert "freeze_stem" not in stderr


def test_every_file_is_there_and_what_is_out_of_date_is_gone(report):
    for name in (*NAMES, *PAPER_FIGURES):
        if name == "curves_data_wait":  # of which these runs know nothing
            assert not (report / f"{name}.png").exists()
            continue
        with Image.open(report / f"{name}.png") as image:
            image.verify()
        assert (report / f"{name}.svg").read_text().rstrip().endswith("</svg>")
    assert not (report / "pair_freeze_none.csv").exists()
    assert (report / "mine.txt").read_text() == "not the report's"
    assert (report / "tables.md").read_text().startswith("## Report of runs\n")
    assert not list(report.glob(".*.tmp"))


def test_wandb_has_the_tables_and_figures_as_one_run(report):
    (file,) = report.glob("wandb/offline-run-*/*.wandb")
    found = Recorded(file)
    assert (found.run.display_name, found.run.job_type, list(found.run.tags)) == ("report", "report", ["report"])
    assert found.exit_code == 0
    (content,) = found.history
    for name in NAMES:
        logged = file.parent / "files" / content[f"{name}.path"]
        assert logged.read_bytes() == (report / f"{name}.png").read_bytes()
    verdicts = json.loads((file.parent / "files" / content["verdicts.path"]).read_text())
    with (report / "verdicts.csv").open() as table:
        rows = list(csv.reader(table))
    assert verdicts["columns"] == rows[0]
    assert [row[4] for row in verdicts["data"]] == [row[4] for row in rows[1:]]


# ------------------------------------------------------------------------------------------------------------ browser


@pytest.fixture
def open_page(open_file, report) -> Callable[..., Any]:
    return partial(open_file, report / "report.html")


def test_every_figure_is_there_and_decoded(open_page):
    page = open_page()
    assert page.title() == "Report of runs"
    sizes = page.evaluate(
        "Promise.all([...document.querySelectorAll('figure .plot img')].map(async i => (await i.decode(), [i.naturalWidth, i.alt])))"
    )
    assert len(sizes) == 19
    assert all(width > 300 and alt for width, alt in sizes)
    assert [figure.get_attribute("id") for figure in page.locator("#ablation figure").all()] == list(NAMES)


def test_the_page_opens_with_what_is_compared_and_ends_with_the_ablation(open_page):
    page = open_page()
    sections = [section.get_attribute("id") for section in page.locator("main > section").all()]
    assert sections == ["compared", "curves", "comparisons", "classes", "calibration", "images", "ablation", "runs"]
    card = page.locator("#ablation article").nth(1)
    assert "CBAM after layer4" in card.inner_text()
    assert "points" in card.inner_text()
    assert "model.cbam_stages: [] → [4]" in card.inner_text()
    assert "different hardware" in page.locator("#ablation").inner_text().lower()
    assert page.locator("#published ~ .cards article").count() == 4


def column(page, table: str, number: int) -> list[str]:
    return page.locator(f"#table-{table} tbody td:nth-child({number})").all_inner_texts()


def test_sorting_knows_numbers_both_ways_and_keeps_what_is_empty_last(open_page, report):
    page = open_page()
    headings = page.locator("#table-verdicts th").all_inner_texts()
    position = next(i for i, text in enumerate(headings, start=1) if text.startswith("images needed"))
    with (report / "verdicts.csv").open() as file:
        ranges = [(row["images_needed_low"], row["images_needed_high"]) for row in csv.DictReader(file)]
    values = sorted((int(low), f"{int(low):,} to {int(high):,}" if high else f"{int(low):,} or more") for low, high in ranges if low)
    texts = [text for _, text in values]
    assert sorted(texts) != texts, "else text would sort alike"
    button = page.locator(f"#table-verdicts th:nth-child({position}) button")
    empty = ["–"] * (5 - len(values))
    button.click()
    assert column(page, "verdicts", position) == texts + empty
    assert page.locator(f"#table-verdicts th:nth-child({position})").get_attribute("aria-sort") == "ascending"
    button.click()
    assert column(page, "verdicts", position) == texts[::-1] + empty
    p = next(i for i, text in enumerate(headings, start=1) if text.startswith("p\xa0") or text == "p")
    page.locator(f"#table-verdicts th:nth-child({p}) button").click()
    assert column(page, "verdicts", p)[-1] == "–"
    assert page.locator("#table-verdicts th[aria-sort]").count() == 1


def test_text_sorts_both_ways(open_page):
    page = open_page()
    button = page.locator("#table-verdicts th:nth-child(1) button")
    before = column(page, "verdicts", 1)
    assert before != sorted(before)
    button.click()
    assert column(page, "verdicts", 1) == sorted(before)
    button.click()
    assert column(page, "verdicts", 1) == sorted(before, reverse=True)


def background(page) -> tuple[int, ...]:
    return tuple(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_follow_the_system_and_the_button(open_page, scheme):
    page = open_page(color_scheme=scheme)
    first = background(page)
    assert (sum(first) > 600) == (scheme == "light")
    page.locator("#theme").click()
    second = background(page)
    assert (sum(second) > 600) == (scheme == "dark")
    page.locator("#theme").click()
    assert background(page) == first


def test_a_phone_scrolls_tables_but_never_the_page(open_page):
    page = open_page(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True, device_scale_factor=2)
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [390, 390]
    for details in page.locator("details > summary").all():
        details.click()
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [390, 390]
    assert page.evaluate("document.querySelector('#table-verdicts .scroll').scrollWidth") > 390


def test_a_figure_is_enlarged_twice_and_closed(open_page):
    page = open_page()
    page.locator("#fig03 .plot").click()
    large = page.locator("#zoom img")
    assert large.get_attribute("src") == page.locator("#fig03 img").get_attribute("src")
    width = large.bounding_box()["width"]
    assert width > page.locator("#fig03 img").bounding_box()["width"]
    large.click()
    assert large.bounding_box()["width"] > 2 * width
    page.keyboard.press("Escape")
    assert not page.locator("#zoom").is_visible()


def test_a_run_shows_its_recipe_and_environment_one_click_away(open_page):
    page = open_page()
    details = page.locator("details.run").filter(has=page.locator("summary", has_text="mixup_cbam/seed1"))
    assert not details.locator("pre").first.is_visible()
    page.locator("#table-runs td a", has_text="mixup_cbam/seed1").first.click()
    details.locator("pre").first.wait_for(state="visible")
    assert "seed: 1\n" in details.locator("pre").nth(0).inner_text()
    assert "0123456789abcdef" in details.locator("pre").nth(1).inner_text()


def test_a_table_is_saved_as_csv(open_page, report):
    page = open_page()
    with page.expect_download() as saved:
        page.locator("#table-seeds a[download]").click()
    assert saved.value.suggested_filename == "seeds.csv"
    assert Path(saved.value.path()).read_bytes() == (report / "seeds.csv").read_bytes()


def test_text_of_a_run_is_shown_and_not_executed(open_page):
    page = open_page()
    page.wait_for_timeout(200)
    assert page.title() == "Report of runs"
    assert NASTY in page.locator("#table-runs").inner_text()
