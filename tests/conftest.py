"""Settings that every test shares."""

import operator
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Compiling takes seconds, and every test has a cache folder of its own (see below): the compiled loops are kept for all.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "numba"))

# A shell starts what it runs in the background (`make test &`) with SIGINT ignored, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# All that Hypothesis would choose by whether CI is set: the same cases everywhere, each time, however slow the machine.
settings.register_profile(
    "everywhere", deadline=None, derandomize=True, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("everywhere")

# What the tests share, so that its assertions too show their values.
pytest.register_assert_rewrite("helpers", "faults")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: each file is one process's (`make test`), and the last one begun should not be a long one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What a test or its fixtures draw without a seed of their own is the same whichever tests ran before."""
    random.seed(0)
    for name, seed in (("numpy", "random.seed"), ("torch", "manual_seed")):
        if module := sys.modules.get(name):  # torch takes seconds to import
            operator.attrgetter(seed)(module)(0)


@pytest.fixture(params=["fp32", "bf16"])
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `train.amp: auto` takes in this process, each in turn on every machine: the processor has no say."""
    monkeypatch.setattr("hw1.runtime.device._computes_bf16", lambda device: request.param == "bf16")
    return request.param


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered between runs (checked images) stays inside the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, so that messages name files without it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a checkout in which plans of runs are carried out by a stand-in for `hw1 train`."""
    from helpers.plan_runs import make_project

    folder = tmp_path / "project"
    make_project(folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def begin(project: Path) -> Iterator[Any]:
    """Starts `python -m hw1.ablate` in processes of their own, in the project."""
    from helpers.plan_runs import ablations

    with ablations() as begin:
        yield begin


@pytest.fixture(scope="session")
def photos() -> Path:
    """Root of real images in the report's layout, from HW1_PHOTOS."""
    root = os.environ.get("HW1_PHOTOS")
    if not root:
        pytest.skip("HW1_PHOTOS names no folder of images")
    return Path(root)


@pytest.fixture
def images(tmp_path: Path) -> Any:
    """A few images on disk, for the loaders' tests."""
    from helpers.loader_images import write_images  # torch takes seconds to import

    return write_images(tmp_path)


@pytest.fixture
def make(images: Any) -> Iterator[Any]:
    """Makes loaders of `images`, closed at the end."""
    from helpers.loader_images import loaders_of

    with loaders_of(images) as make:
        yield make


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A real browser without a screen; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as client:
        browser = client.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def open_file(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page from disk with options of a browser context; at the end there was no error and no request but for the file itself."""
    contexts, complaints, requests, urls = [], [], set(), set()

    def open_it(path: Path, **options: Any) -> Any:
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        context.set_offline(True)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.add(request.url))
        urls.add(path.as_uri())
        page.goto(path.as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url for url in requests if not url.startswith("data:")} == urls
