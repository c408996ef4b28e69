"""What is said and what wandb is told: by its real client, read back from the file that it wrote."""

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from helpers.paths import ROOT
from helpers.wandb_files import recorded
from PIL import Image

from benchmarks.common.wandb_file import records, values
from hw1.config.load import load_recipe
from hw1.runs.folder import RunFolder
from hw1.tracking.tracker import At, FileSet, Table
from hw1.tracking.wandb_tracker import WandbTracker
from hw1.utils.console import say

KEY = "0123456789" * 4


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home without any trace of wandb."""
    for name in [name for name in os.environ if name.startswith("WANDB_") or name == "NETRC"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    yield tmp_path / "home"
    wandb.teardown()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The address that wandb would talk to; collects what it hears and refuses the key."""
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                heard.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    thread = threading.Thread(target=answer)
    thread.start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
    yield heard
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def folder(*overrides: str) -> tuple[Any, RunFolder]:
    recipe = load_recipe(ROOT / "recipes/base.yaml", ["run.name=a", "log.tags=[cbam, t2]", *overrides])
    run = RunFolder.of(recipe)
    run.path.mkdir(parents=True)
    return recipe, run


def start(recipe: Any, run: RunFolder, run_id: str | None = None) -> WandbTracker:
    return WandbTracker(recipe, run, run_id, "numbers", {"seed": recipe.seed, "resolved": {"num_train": 7}})


def tell(client: WandbTracker, *epochs: int) -> None:
    """Of each epoch two steps of five, then the epoch."""
    for epoch in epochs:
        for step in (10 * epoch - 5, 10 * epoch):
            client.scalars({"train/loss_step": 1 / step, "lr": 1e-4}, At(step))
        client.scalars(row(epoch), At(10 * epoch, epoch))


def row(epoch: int) -> dict[str, float]:
    return {"train/loss": 1 / epoch, "val/top1": [0.1, 0.5, 0.3][epoch % 3], "val/loss": 1 + 0.1 * (epoch - 3) ** 2}


def test_a_continued_run_is_one_run_with_every_epoch(home, server, capfd):
    recipe, run = folder("log.wandb=offline", "log.group=g", "log.project=p")
    client = start(recipe, run)
    run_id = client.id
    tell(client, 1, 2, 3)
    client.finish(failed=True)
    client = start(recipe, run, run_id)
    assert client.id == run_id
    tell(client, 1, 2, 3, 4, 5)
    client.images({"samples": Image.fromarray(np.full((6, 8, 3), 200, np.uint8))}, At(50, 5))
    client.summary({"best_top1": 0.5, "best_epoch": 5, "stopped_early": False})
    client.finish(failed=False)

    first, second = recorded(run)
    for part, num in ((first, 3), (second, 5)):
        epochs = [entry for entry in part.history if "val/top1" in entry]
        assert [(entry["epoch"], {name: entry[name] for name in row(1)}) for entry in epochs] == [(e, row(e)) for e in range(1, num + 1)]
        steps = [(entry["train/step"], entry["train/loss_step"]) for entry in part.history if "train/loss_step" in entry]
        assert steps == [(step, 1 / step) for step in range(5, 10 * num + 1, 5)]
        numbers = [entry["_step"] for entry in part.history]
        assert sorted(set(numbers)) == numbers  # wandb drops a row whose number is not after the last
    assert [entry["_step"] for entry in first.history] == [entry["_step"] for entry in second.history][: len(first.history)]

    for part in (first, second):
        assert part.run.run_id == run_id
        assert (part.run.project, part.run.run_group, part.run.display_name) == ("p", "g", "a-seed118")
        assert list(part.run.tags) == ["cbam", "t2"]
        assert {name: part.config[name] for name in ("seed", "resolved")} == {"seed": 118, "resolved": {"num_train": 7}}
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert {name: second.summary[name] for name in ("best_top1", "best_epoch", "stopped_early")} == {
        "best_top1": 0.5,
        "best_epoch": 5,
        "stopped_early": False,
    }
    (image,) = [entry for entry in second.history if "samples.path" in entry]
    assert (image["samples.width"], image["samples.height"], image["epoch"]) == (8, 6, 5)
    (copy,) = run.path.glob(f"wandb/offline-run-*/files/{image['samples.path']}")
    assert np.array_equal(np.asarray(Image.open(copy)), np.full((6, 8, 3), 200, np.uint8))

    assert server == []  # offline means offline
    said = capfd.readouterr().err.splitlines()
    assert said == ["wandb: runs/a/seed118/wandb, from where `wandb sync` sends numbers; nothing leaves this machine before"] * 2


def test_axes_and_what_stands_for_the_run_are_defined_before_the_first_row(home):
    recipe, run = folder("log.wandb=offline")
    client = start(recipe, run)
    tell(client, 1)
    client.finish(failed=True)
    (part,) = recorded(run)
    defined = {metric.name or metric.glob_name: metric for metric in part.metrics}
    assert {name: defined[name].step_metric for name in ("train/loss_step", "lr", "grad_norm")} == dict.fromkeys(
        ("train/loss_step", "lr", "grad_norm"), "train/step"
    )
    assert {name: defined[name].step_metric for name in ("train/loss", "val/top1", "perf/data_wait", "*")} == dict.fromkeys(
        ("train/loss", "val/top1", "perf/data_wait", "*"), "epoch"
    )
    assert defined["val/top1"].summary.max
    assert defined["val/loss"].summary.min
    assert not defined["val/loss"].summary.max
    assert not defined["perf/data_wait"].summary.max


def test_a_table_holds_its_images_and_an_artifact_its_files(home, tmp_path):
    recipe, run = folder("log.wandb=offline")
    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    client = start(recipe, run)
    client.tables({"val/predictions": Table(["image", "true", "loss"], [[Image.fromarray(pixels), "cat", 1.5]])}, At(3, 1))
    client.files(FileSet("a-seed118", "model", {"best.bin": b"weights"}, {"epoch": 1}, ["best"]))
    (tmp_path / "data/cat").mkdir(parents=True)
    (tmp_path / "data/cat/1.jpg").write_bytes(b"image")
    client.files(FileSet("data-1", "dataset", {"files.csv": b"x"}, {}, references={"train": (tmp_path / "data").as_uri()}))
    client.finish(failed=False)
    (part,) = recorded(run)
    table, model, data = part.artifacts
    (image,) = [entry for entry in table.manifest.contents if entry.path.endswith(".png")]
    assert np.array_equal(np.asarray(Image.open(image.local_path)), pixels)
    assert Path(image.local_path).is_relative_to(run.path.absolute())  # not in the home folder: the run folder is whole
    (content,) = [json.loads(Path(entry.local_path).read_bytes()) for entry in table.manifest.contents if entry.path.endswith("table.json")]
    assert content["columns"] == ["image", "true", "loss"]
    assert content["data"][0][1:] == ["cat", 1.5]
    assert (model.name, model.type, sorted(model.aliases)) == ("a-seed118", "model", ["best", "latest"])
    assert json.loads(model.metadata) == {"epoch": 1}
    (file,) = model.manifest.contents
    assert (file.path, Path(file.local_path).read_bytes()) == ("best.bin", b"weights")
    assert (data.name, data.type) == ("data-1", "dataset")
    found = {entry.path: (entry.ref, bool(entry.local_path)) for entry in data.manifest.contents}
    assert found == {"files.csv": ("", True), "train/cat/1.jpg": ((tmp_path / "data/cat/1.jpg").as_uri(), False)}  # the image stays


def test_what_is_said_is_recorded_too(home, monkeypatch):
    recipe, run = folder("log.wandb=offline")
    for variable, expected in (({}, True), ({"WANDB_CONSOLE": "off"}, False)):
        for name, value in variable.items():
            monkeypatch.setenv(name, value)
        client = start(recipe, run)
        say(f"hello {expected}")
        client.finish(failed=False)
        assert any("hello" in part.console for part in recorded(run)[-1:]) == expected


def test_rows_that_a_killed_process_did_not_write_are_there_in_the_next(home):
    """wandb writes blocks of 32 KiB; the end of its file may be torn besides. The next process sends every row again."""
    recipe, run = folder("log.wandb=offline")
    client = start(recipe, run)
    tell(client, *range(1, 101))
    client.finish(failed=True)
    wandb.teardown()
    (path,) = run.path.glob("wandb/offline-run-*/*.wandb")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    left = [entry["epoch"] for entry in history(path) if "epoch" in entry]
    assert 10 < len(left) < 90
    client = start(recipe, run, client.id)
    tell(client, *range(1, 102))
    client.finish(failed=False)
    wandb.teardown()
    (other,) = set(run.path.glob("wandb/offline-run-*/*.wandb")) - {path}
    rows = history(other)
    assert [entry["epoch"] for entry in rows if "epoch" in entry] == list(range(1, 102))
    assert [entry["train/step"] for entry in rows if "train/step" in entry] == list(range(5, 1011, 5))


def history(path: Path) -> list[dict[str, Any]]:
    """The rows of a file whose end may be missing."""
    found = []
    with suppress(AssertionError, struct.error):
        for record in records(path):
            if record.HasField("history"):
                found.append(values(record.history.item))
    return found


@pytest.mark.parametrize(
    ("key", "reason"),
    [(None, "no API key found (`wandb login`)"), ("short", "WANDB_API_KEY invalid: "), (KEY, "")],
    ids=["none", "bad", "refused"],
)
def test_online_without_a_good_key_is_recorded_offline_and_says_so_once(home, server, monkeypatch, capsys, key, reason):
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    recipe, run = folder("log.wandb=online")
    client = start(recipe, run)
    tell(client, 1)
    client.finish(failed=False)
    said = [line for line in capsys.readouterr().err.splitlines() if "offline" in line]
    assert len(said) == 1
    assert said[0].startswith(f"wandb: {reason}")
    assert said[0].endswith(", so this run is recorded offline; `wandb sync runs/a/seed118/wandb/offline-*` uploads it later")
    (part,) = recorded(run)
    assert [entry["epoch"] for entry in part.history if "epoch" in entry] == [1]
    assert part.run.run_group == "a"  # the run's name, so that its seeds stand together
    assert bool(server) == (key == KEY)  # only a key that could be good is shown to the server


NETRC = "machine {host}\n  login user\n  password " + KEY


@pytest.mark.parametrize(
    ("environment", "netrc", "mode"),
    [
        ({}, None, "offline"),
        ({"WANDB_API_KEY": KEY}, None, "online"),
        ({"WANDB_API_KEY": ""}, None, "offline"),
        ({"WANDB_IDENTITY_TOKEN_FILE": "token"}, None, "online"),
        ({}, NETRC.format(host="api.wandb.ai"), "online"),
        ({}, NETRC.format(host="example.org"), "offline"),
        ({"WANDB_BASE_URL": "https://example.org"}, NETRC.format(host="example.org"), "online"),
        ({}, "machine machine machine", "offline"),
        ({"NETRC": "{home}/other"}, NETRC.format(host="api.wandb.ai"), "offline"),
    ],
)
def test_online_is_tried_where_there_is_a_key(home, monkeypatch, capsys, environment, netrc, mode):
    class Started(Exception):
        pass

    def init(**arguments):
        raise Started(arguments["mode"], arguments.get("resume"))

    for name, text in environment.items():
        monkeypatch.setenv(name, text.format(home=home))
    if netrc:
        (home / ".netrc").write_text(netrc)
        (home / ".netrc").chmod(0o600)
    monkeypatch.setattr(wandb, "init", init)
    recipe, run = folder("log.wandb=online")
    with pytest.raises(Started) as started:
        start(recipe, run, "abc")
    assert started.value.args == (mode, "allow" if mode == "online" else None)
    assert ("no API key found" in capsys.readouterr().err) == (mode == "offline")
