"""python -m hw1.audit as a user meets it: exit codes, files, the page in a real browser, an interruption."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from helpers.audit_images import COPIES, clean_root, cut_short, make_image, save
from helpers.paths import ROOT
from helpers.run_folders import changed, started, tree
from PIL import Image

from hw1.audit.__main__ import main
from hw1.errors import run_command
from hw1.evaluation.predictions import Predictions

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync"]
NASTY = "<img src=x onerror=\"document.title='broken'\">.jpg"
STRINGS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
LINK = {
    "type": "object",
    "required": ["files", "how", "mirrored", "resized", "correlation"],
    "properties": {
        "files": STRINGS | {"maxItems": 2, "minItems": 2},
        "how": {"enum": ["same file", "same pixels", "near copy"]},
        "mirrored": {"type": "boolean"},
        "resized": {"type": "boolean"},
        "correlation": {"type": "number", "maximum": 1},
    },
}
FINDING = {
    "type": "object",
    "required": ["kind", "text", "files"],
    "properties": {
        "kind": {
            "enum": ["leak", "conflict", "duplicate", "unreadable", "cut short", "missing class", "alike", "unclear", "passed over"],
        },
        "files": STRINGS,
        "links": {"type": "array", "items": LINK, "minItems": 1},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["root", "hw1", "clean", "counts", "findings", "statistics", "suspects"],
    "properties": {"clean": {"type": "boolean"}, "findings": {"type": "array", "items": FINDING}},
}


def audit(*arguments: object) -> int:
    return run_command(main, [str(argument) for argument in arguments])


@pytest.fixture
def faulty(folder: Path) -> Path:
    """A root with one finding of every kind."""
    root = clean_root(folder / "data")
    save(COPIES["mirrored"](Image.open(root / "train/a/0.jpg")), root / "val/b" / NASTY, quality=60)
    save(Image.open(root / "train/a/1.jpg"), root / "train/a/again.jpg", quality=60)
    save(make_image(9), root / "train/c/0.jpg")
    (root / "test/bad.jpg").write_bytes(b"\xff\xd8\xff")
    save(make_image(10), root / "test/short.ppm")
    cut_short(root / "test/short.ppm")
    return root


def test_a_clean_root_gives_exit_code_0_and_is_left_as_it_was(folder, capsys):
    root = clean_root(folder / "data")
    before = tree(root)
    assert audit(root) == 0
    assert tree(root) == before
    assert sorted(path.name for path in (folder / "audit").iterdir()) == ["audit.html", "audit.json"]
    assert capsys.readouterr().out.startswith("clean: no finding\n20 images: 8 train, 8 val, 4 test\n")
    assert json.loads((folder / "audit/audit.json").read_text())["clean"] is True


def test_findings_are_listed_leaks_first_with_exit_code_1(faulty, capsys):
    assert audit(faulty, "--out", "out") == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "leak: 1 of 9 val images (11.1%) is also in train"
    assert said[1] == "6 findings: 1 x leak, 1 x conflict, 1 x duplicate, 1 x unreadable, 1 x cut short, 1 x missing class"
    record = json.loads(Path("out/audit.json").read_text())
    jsonschema.validate(record, SCHEMA)
    counts = {"leak": 1, "conflict": 1, "duplicate": 1, "unreadable": 1, "cut short": 1, "missing class": 1}
    assert record["counts"] == counts | {"alike": 0, "unclear": 0, "passed over": 0}
    assert [finding["files"] for finding in record["findings"]] == [
        ["train/a/0.jpg", f"val/b/{NASTY}"],
        ["train/a/0.jpg", f"val/b/{NASTY}"],
        ["train/a/1.jpg", "train/a/again.jpg"],
        ["test/bad.jpg"],
        ["test/short.ppm"],
        ["val/c"],
    ]
    assert record["statistics"]["leaked"] == {"val": {"train": 1}}
    assert Path("out/audit.html").read_text().count('src="data:image/jpeg') == 6, "both copies of a leak, a conflict and a duplicate"


def test_findings_about_folders_are_on_the_page(folder, capsys):
    root = clean_root(folder / "data")
    (root / "train/a/IMG_1.HEIC").touch()
    assert audit(root, "--out", "out") == 1
    assert capsys.readouterr().out.startswith("1 finding: 1 x passed over\n")
    page = Path("out/audit.html").read_text()
    assert "<code>train/a/IMG_1.HEIC</code>: 1 .heic" in page
    assert 'id="passed-over"' in page


def test_a_table_of_labels_is_audited_as_the_folders_are(faulty):
    """Only what it lists, by the columns that are found or named; a mistake in it is one line."""
    (faulty / "train/unlisted.jpg").write_bytes(b"")
    rows = [["image", "kind", "set"]]
    for path in sorted(faulty.glob("*/*/*.*")):
        rows.append([path.relative_to(faulty).as_posix(), path.parent.name, path.parent.parent.name])
    rows += [[path.relative_to(faulty).as_posix(), "", "test"] for path in sorted(faulty.glob("test/*.*"))]
    with open("labels.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert audit(faulty, "--labels", "labels.csv", "data.label_column=kind", "--out", "listed") == 1
    (faulty / "train/unlisted.jpg").unlink()
    assert audit(faulty, "--out", "folders") == 1
    listed, folders = (json.loads(Path(name, "audit.json").read_text()) for name in ("listed", "folders"))
    jsonschema.validate(listed, SCHEMA)
    assert listed["findings"] == folders["findings"]
    assert listed["statistics"] == folders["statistics"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["data", "--labels", "labels.csv"],
            "data.label_column: labels.csv: none of its columns has a usual name (image, kind); set data.label",
        ),
        (["data", "--labels", "labels.csv", "data.label_column=kind"], "data.labels: labels.csv, line 2: gone.jpg: no such image in data"),
        (["data", "--labels", "labels.csv", "data.lable_column=kind"], "data.lable_column: unknown key; nearest: data.label_column"),
        (["data", "data.label_column=kind"], "data.label_column=kind: says what the columns of --labels are; add --labels FILE"),
        (["dat"], "dat: no such folder; did you mean data?"),
        (["data", "--out", "data/audit"], "--out data/audit: lies in data, which is only read"),
        (["data", "--out", "file/audit"], "--out file/audit: cannot be made"),
        (["data", "--run", "runs"], "runs: no such folder"),
    ],
)
def test_a_mistake_in_the_command_is_one_line_and_writes_nothing(folder, capsys, arguments, message):
    clean_root(folder / "data")
    Path("file").touch()
    Path("labels.csv").write_text("image,kind\ngone.jpg,a\n")
    before = tree(folder)
    assert audit(*arguments) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert tree(folder) == before


def test_a_run_names_labels_and_images_that_it_doubts(folder, capsys):
    """Of eight sure and right predictions and one sure and wrong one, one is suspected; no finding."""
    root = clean_root(folder / "data")
    files = [f"val/{name}/{number}.jpg" for name in "ab" for number in range(4)]
    labels = np.repeat(np.arange(2), 4)
    logits = np.where(np.arange(2) == labels[:, None], 3.0, -3.0).astype(np.float32)
    logits[2] = (-4.0, 4.0)
    logits[5] = (-0.1, 0.1)
    run = started(changed("run.dir=runs"), epochs=1)
    Predictions(np.arange(8), logits, labels).save(run.val_predictions, files=files, class_names=["a", "b"])
    assert audit(root, "--run", run.path) == 0
    label_errors = json.loads(Path("audit/audit.json").read_text())["suspects"]
    assert [(label_error["file"], label_error["label"], label_error["predicted"]) for label_error in label_errors["labels"]] == [
        ("val/a/2.jpg", "a", "b")
    ]
    assert label_errors["outliers"][0]["file"] == "val/b/1.jpg"
    assert (label_errors["num_pictures"], label_errors["accuracy"]) == (8, 7 / 8)
    capsys.readouterr()
    (root / "val").rename(root / "valid")
    assert audit(root, "--run", run.path) == 2
    assert "it was made with other data" in capsys.readouterr().err


def test_an_interruption_leaves_nothing_half_written(folder):
    """SIGINT while images are read; the report of an earlier audit stays whole."""
    root = clean_root(folder / "data", 40)
    code = (
        "import sys, time, hw1.audit.scan as scan; from hw1.audit.__main__ import main; from hw1.errors import run_command\n"
        "inspect = scan.inspect_file\n"
        "scan.inspect_file = lambda path: (print('reading\\n', end='', flush=True), time.sleep(0.02), inspect(path))[2]\n"
        "sys.exit(run_command(main, sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, str(root), "--out", str(folder / "out")]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "reading\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted"
    assert "Traceback" not in said
    assert not (folder / "out").exists()


# ------------------------------------------------------------------------------------------------------------ browser


@pytest.fixture
def page(faulty, capsys) -> Iterator:
    """The page of the faulty root; at the end there was no error and no request but for the file itself."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    assert audit(faulty, "--out", "out") == 1
    url = (Path.cwd() / "out/audit.html").as_uri()
    complaints, requests = [], []
    with playwright.sync_playwright() as client:
        browser = client.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        opened = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True).new_page()
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("request", lambda request: requests.append(request.url))
        opened.goto(url)
        yield opened
        browser.close()
    assert complaints == []
    assert {request for request in requests if not request.startswith("data:")} == {url}


def test_the_page_shows_what_was_found_side_by_side(page):
    assert page.title() == "Data audit"
    sections = [section.get_attribute("id") for section in page.locator("main > section").all()]
    assert sections == ["summary", "leak", "conflict", "duplicate", "unreadable", "cut-short", "missing-class", "statistics"]
    assert "1 of 9 val images (11.1%) is also in train" in page.locator("#summary").inner_text()
    leak = page.locator("#leak article")
    assert leak.count() == 1
    assert NASTY in leak.inner_text()
    boxes = [image.bounding_box() for image in leak.locator("img").all()]
    assert len(boxes) == 2
    assert boxes[0]["y"] == boxes[1]["y"]
    images = "[...document.querySelectorAll('img[src^=data]')]"
    widths = page.evaluate(f"Promise.all({images}.map(async i => (i.loading = 'eager', await i.decode(), i.naturalWidth)))")
    assert widths == [180] * 6
    assert "test/bad.jpg" in page.locator("#unreadable").inner_text()
    assert "val has no image of class c" in page.locator("#missing-class").inner_text()


def test_a_phone_never_scrolls_the_page_sideways(page):
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [390, 390]
