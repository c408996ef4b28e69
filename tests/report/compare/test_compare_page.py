"""The page of any runs in a real browser: curves that can be switched, smoothed and zoomed, at a desk and on a phone."""

from pathlib import Path

import pytest
from helpers.report_runs import write_run

from hw1.report.__main__ import main

pytestmark = pytest.mark.slow
NASTY = "</script><img src=x onerror=\"document.title='broken'\">"
TRACES = "Object.fromEntries([...document.querySelectorAll('.curve')].filter(e => e.data).map(e => [e.ariaLabel.split(',')[0], e.data]))"
WIDER = """[...document.querySelectorAll('main *')].filter(element => {
    const style = getComputedStyle(element);
    return !element.closest('svg, .js-plotly-plot') && style.display !== 'inline' && style.overflowX === 'visible'
        && element.scrollWidth > element.clientWidth + 1;
}).map(element => element.outerHTML.slice(0, 100))"""


@pytest.fixture(scope="module")
def page_of_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants of two seeds with names as long as they can be, an unfinished run, and text that would be script."""
    root, out = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("out")
    for seed in (0, 1):
        write_run(root, "short", seed, epochs=6)
        write_run(root, "a_name_of_a_hundred_letters_" + "x" * 72, seed, 0.8, epochs=6, overrides=("optim.lr=0.002",), env={"cpu": NASTY})
    write_run(root, "short", 2, epochs=6, finished=False)
    main([str(root), "--out", str(out), "--baseline", "short"])
    return out / "report.html"


def wait_until(page, expression: str) -> None:
    """Wait for JavaScript to be true; playwright's own way evaluates text in the page, which its policy forbids."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


def curves(page):
    page.locator("#curves").scroll_into_view_if_needed()
    page.wait_for_selector(".curve .main-svg")
    return page.evaluate(TRACES)["Validation loss"]


def test_the_legend_switches_variants_and_seeds_in_all_panels(page_of_runs, open_file):
    page = open_file(page_of_runs)
    assert page.title() == "Report of runs"
    assert NASTY in page.locator("dl").inner_text()
    traces = curves(page)
    assert len(traces) == 7  # two seeds and a mean of each, and the unfinished run
    assert sorted(trace["line"]["width"] for trace in traces) == [1, 1, 1, 1, 1.6, 2.5, 2.5]
    assert [trace["line"]["dash"] for trace in traces if trace["line"]["width"] == 1.6] == ["dot"]
    page.locator("#legend button", has_text="short").first.click()
    assert len(page.evaluate(TRACES)["Validation loss"]) == 3
    page.locator("#legend .seed", has_text="seed 1").first.click()
    assert len(page.evaluate(TRACES)["Validation loss"]) == 2
    page.locator("#show-none").click()
    assert page.evaluate(TRACES)["Validation loss"] == []
    page.locator("#show-all").click()
    assert len(page.evaluate(TRACES)["Validation top-1"]) == 6


def test_smoothing_is_a_moving_average_and_the_values_stay_those_of_the_run(page_of_runs, open_file):
    page = open_file(page_of_runs)
    before = curves(page)[-1]
    page.locator("#smoothing").fill("0.5")
    wait_until(page, "(t => t.y[1] !== t.customdata[1])(document.querySelector('.curve').data.at(-1))")
    after = page.evaluate(TRACES)["Validation loss"][-1]
    mean, norm, expected = 0.0, 0.0, []
    for value in before["y"]:
        mean, norm = 0.5 * mean + 0.5 * value, 0.5 * norm + 0.5
        expected.append(mean / norm)
    assert after["y"] == pytest.approx(expected)
    assert after["customdata"] == before["y"]


def test_a_value_shows_under_the_mouse_and_a_drag_zooms(page_of_runs, open_file):
    page = open_file(page_of_runs)
    curves(page)
    plot = page.locator(".curve .nsewdrag").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    position = page.evaluate(
        "(() => { const e = document.querySelector('.curve'), t = e.data.at(-1), l = e._fullLayout, r = e.getBoundingClientRect();"
        "return [r.x + l._size.l + l.xaxis.d2p(t.x[2]), r.y + l._size.t + l.yaxis.d2p(t.y[2])]; })()"
    )
    page.mouse.move(*position)
    page.wait_for_selector(".hovertext")
    assert "epoch 3: " in page.locator(".hovertext").first.text_content()
    ends = page.evaluate("document.querySelector('.curve').layout.xaxis.range")
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + box["height"] - 20, steps=5)
    page.mouse.up()
    zoomed = page.evaluate("document.querySelector('.curve').layout.xaxis.range")
    assert zoomed != ends
    assert zoomed[1] - zoomed[0] < 5


@pytest.mark.parametrize("width", [1300, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_its_box(page_of_runs, open_file, width, scheme):
    page = open_file(page_of_runs, viewport={"width": width, "height": 900}, color_scheme=scheme)
    curves(page)
    for box in page.locator(".curve").all():
        box.scroll_into_view_if_needed()
    wait_until(page, "[...document.querySelectorAll('.curve')].every(each => each.querySelector('.main-svg'))")
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [width, width]
    assert page.evaluate(WIDER) == []
    assert (
        page.evaluate("[...document.querySelectorAll('.curve')].filter(e => e.querySelector('.main-svg').clientWidth > e.clientWidth)")
        == []
    )
