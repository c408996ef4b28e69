"""`hw1 demo`: in a real browser an image gets the classes of `hw1 predict`, and nobody outside hears of it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.model_runs import call, make_run
from helpers.paths import ROOT
from PIL import Image

import hw1.predict.__main__ as predict
from hw1.commands import demo
from hw1.config.recipe import TrainConfig
from hw1.data.synthetic import draw_image
from hw1.errors import UserError
from hw1.predict.open_classifier import open_classifier
from hw1.runs.folder import RunFolder

NAMES = ["ant", "bee", "cat", "dog", "elk", "fox"]
AUDIT = """
import os, sys
def record(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        address = arguments[1] if event == "socket.connect" else arguments[0]
        with open(os.environ["CONNECTIONS"], "a") as file:
            file.write(f"{address}\\n")
sys.addaudithook(record)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("runs"), None, NAMES)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo as a phone stores it: turned, as its EXIF data say."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(draw_image(3, 96, np.random.default_rng(0))[:60]).save(path, exif=exif, quality=95)
    return path


def predicted(run: RunFolder, photo: Path, folder: Path) -> dict[str, float]:
    assert call(predict.main, run.path, photo, "--device", "cpu", "--out", folder / "p.json").returncode == 0
    return {row["class"]: row["probability"] for row in json.loads((folder / "p.json").read_text())[0]["predictions"]}


def test_without_gradio_there_is_help_and_one_line(run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(SystemExit):
        demo.main(["--help"])
    assert "RUN_OR_EXPORT" in capsys.readouterr().out
    result = call(demo.main, run.path)
    assert (result.returncode, result.stderr) == (2, "gradio is not installed; pip install -r requirements-demo.txt\n")


@pytest.mark.parametrize(("option", "value"), [("--top", "0"), ("--port", "65536"), ("--temperature", "0")])
def test_a_wrong_option_is_named(option: str, value: str) -> None:
    with pytest.raises(UserError, match=f"{option}: must be "):
        demo.parse(["model", option, value])


def test_the_answer_is_that_of_predict_with_a_map_of_the_evidence(run: RunFolder, photo: Path, tmp_path: Path) -> None:
    classifier = open_classifier(run.path, None, TrainConfig(device="cpu"))
    classes, drawn = demo.answer(classifier, photo, 1.0, 5)
    assert classes == pytest.approx(predicted(run, photo, tmp_path), abs=1e-6)
    assert drawn is not None
    assert (drawn.dtype, drawn.shape) == (np.uint8, (400, 400, 3))
    assert np.ptp(drawn) > 50
    (tmp_path / "no.jpg").write_bytes(b"no image")
    with pytest.raises(UserError):
        demo.answer(classifier, tmp_path / "no.jpg", 1.0, 5)


@pytest.fixture
def server(run: RunFolder, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a running demo, and the file in which every address is noted that its process connects to."""
    pytest.importorskip("gradio", reason="requirements-demo.txt is not installed")
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(AUDIT)
    paths = [str(tmp_path / "hook"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "CONNECTIONS": str(tmp_path / "connections")}
    command = [sys.executable, "-m", "hw1", "demo", str(run.path), "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"open (http://127\.0\.0\.1:\d+)", line)
    assert found, line + (process.communicate()[1] if process.poll() is not None else "")
    yield found[1], tmp_path / "connections"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    process.communicate()


@pytest.mark.slow
def test_a_browser_shows_classes_confidences_and_attention(server: Any, chromium: Any, run: RunFolder, photo: Path, tmp_path: Path) -> None:
    url, connections = server
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page, requests, errors = context.new_page(), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    page.locator("input[type=file]").first.set_input_files(photo)
    expected = predicted(run, photo, tmp_path)
    likeliest = max(expected, key=lambda name: expected[name])
    page.get_by_text(f"{expected[likeliest]:.0%}", exact=True).first.wait_for(timeout=30_000)
    text = page.locator("body").inner_text()
    for name, probability in expected.items():
        assert re.search(rf"{name}\s+{probability:.0%}", text), text
    page.wait_for_function("[...document.images].filter(i => i.complete && i.naturalWidth == 400).length == 1")
    page.screenshot(path=tmp_path / "demo.png")
    context.close()
    assert errors == []
    assert [each for each in requests if not each.startswith((url, "data:", "blob:"))] == []
    addresses = connections.read_text().splitlines() if connections.is_file() else []
    assert [address for address in addresses if "127.0.0.1" not in address and address not in ("localhost", "None")] == []
    assert listening_addresses(int(url.rpartition(":")[2])) == {"0100007F"}


def listening_addresses(port: int) -> set[str]:
    """The addresses, as Linux writes them, at which somebody listens on a port."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
