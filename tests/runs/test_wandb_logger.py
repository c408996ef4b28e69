"""What is said and what wandb is told: by its real client, read back from the file that it wrote."""

import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from helpers.paths import ROOT
from helpers.wandb_files import recorded, records, values
from PIL import Image

from hw1.config.load import load_recipe
from hw1.config.recipe import LogConfig
from hw1.errors import UserError
from hw1.runs.epoch_metrics import format_epoch
from hw1.runs.folder import RunFolder
from hw1.runs.wandb_logger import WandbRun, with_environment
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


def row(epoch: int) -> Any:
    return {"epoch": epoch, "train_loss": 1 / epoch, "val_top1": epoch / 10, "lr": 1e-4}


def folder(*overrides: str) -> tuple[Any, RunFolder]:
    recipe = load_recipe(ROOT / "recipes/base.yaml", ["run.name=a", "log.tags=[cbam, t2]", *overrides])
    run = RunFolder.of(recipe)
    run.path.mkdir(parents=True)
    return recipe, run


def test_a_continued_run_is_one_run_with_every_epoch(home, server, capfd):
    recipe, run = folder("log.wandb=offline", "log.group=g", "log.project=p")
    array = run.path / "curves.png"
    Image.fromarray(np.full((6, 8, 3), 200, np.uint8)).save(array)

    client = WandbRun(recipe, run, None)
    run_id = client.id
    for epoch in (1, 2, 3):
        client.log(row(epoch))
    client.stop()
    client = WandbRun(recipe, run, run_id)
    assert client.id == run_id
    for epoch in (3, 4, 5):
        client.log(row(epoch))
    client.finish({"best_top1": 0.5, "best_epoch": 5, "stopped_early": False}, {"curves": array, "samples": run.path / "none.png"})

    first, second = recorded(run)
    epochs = [[entry for entry in part.history if "val_top1" in entry] for part in (first, second)]
    assert [[{name: entry[name] for name in row(1)} for entry in part] for part in epochs] == [
        [row(1), row(2), row(3)],
        [row(3), row(4), row(5)],
    ]
    for part in (first, second):
        steps = [entry["_step"] for entry in part.history]
        assert sorted(set(steps)) == steps  # wandb drops a step that is not after the last
    assert [part.history[at]["_step"] for part, at in ((first, 2), (second, 0))] == [6, 6]  # an epoch has the same step again

    for part in (first, second):
        assert part.run.run_id == run_id
        assert (part.run.project, part.run.run_group, part.run.display_name) == ("p", "g", "a-seed118")
        assert list(part.run.tags) == ["cbam", "t2"]
        assert {name: part.config[name] for name in recipe.model_dump()} == recipe.model_dump(mode="json")
        axes = [(metric.name or metric.glob_name, metric.step_metric) for metric in part.metrics]
        assert axes[:2] == [("epoch", ""), ("*", "epoch")]
        assert all(axis == "epoch" for _, axis in axes[1:])  # some versions add the names that "*" came to stand for
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert {name: second.summary[name] for name in ("best_top1", "best_epoch", "stopped_early")} == {
        "best_top1": 0.5,
        "best_epoch": 5,
        "stopped_early": False,
    }
    (image,) = [entry for entry in second.history if "curves.path" in entry]
    assert (image["curves.width"], image["curves.height"], image["epoch"]) == (8, 6, 5)
    assert not [name for part in (first, second) for entry in part.history for name in entry if name.startswith("samples")]
    (copy,) = run.path.glob(f"wandb/offline-run-*/files/{image['curves.path']}")
    assert copy.read_bytes() == array.read_bytes()

    assert server == []  # offline means offline
    assert capfd.readouterr() == ("", "")


def test_epochs_that_a_killed_process_did_not_write_are_there_in_the_next(home):
    """wandb writes blocks of 32 KiB; the end of its file may be torn besides. The next process sends every epoch again."""
    recipe, run = folder("log.wandb=offline")
    client = WandbRun(recipe, run, None)
    for epoch in range(1, 101):
        client.log(row(epoch))
    client.stop()
    wandb.teardown()
    (path,) = run.path.glob("wandb/offline-run-*/*.wandb")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    left = [entry["epoch"] for entry in history(path)]
    assert 10 < len(left) < 90
    client = WandbRun(recipe, run, client.id)
    for epoch in range(1, 102):
        client.log(row(epoch))
    client.finish({}, {})
    wandb.teardown()
    (other,) = set(run.path.glob("wandb/offline-run-*/*.wandb")) - {path}
    assert [entry["epoch"] for entry in history(other)] == list(range(1, 102))
    assert {name: history(other)[50][name] for name in row(1)} == row(51)


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
    client = WandbRun(recipe, run, None)
    client.log(row(1))
    client.finish({}, {})
    said = [line for line in capsys.readouterr().err.splitlines() if "offline" in line]
    assert len(said) == 1
    assert said[0].startswith(f"wandb: {reason}")
    assert said[0].endswith(", so this run is recorded offline; `wandb sync runs/a/seed118/wandb/offline-*` uploads it later")
    (part,) = recorded(run)
    assert [entry["epoch"] for entry in part.history] == [1]
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
        WandbRun(recipe, run, "abc")
    assert started.value.args == (mode, "allow" if mode == "online" else None)
    assert ("no API key found" in capsys.readouterr().err) == (mode == "offline")


def test_wandb_is_not_imported_unless_it_is_on():
    code = "import sys, hw1.runs.wandb_logger, hw1.runs.folder; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_an_epoch_is_one_line():
    numbers = {"train_loss": 1.23456, "train_acc": 0.5, "val_loss": 0.75, "val_top1": 0.9042, "val_top5": 1.0}
    speed = {"lr": 1e-4, "images_per_second": 1234.56, "data_wait": 0.034, "seconds": 61.4}
    assert format_epoch({"epoch": 7, **numbers, **speed}, 50) == (
        "epoch  7/50  train loss 1.2346 acc 0.5000  val loss 0.7500 top1 0.9042 top5 1.0000  lr 1.00e-04  1235 img/s  wait 3%  61 s"
    )


def test_lines_for_the_user_go_to_stderr(capsys):
    say("hello")
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize(
    ("config", "typed", "environment", "expected", "used"),
    [
        ({"wandb": "online"}, [], {"WANDB_MODE": "offline"}, {"wandb": "offline"}, 1),
        ({"wandb": "online"}, ["log.wandb"], {"WANDB_MODE": "disabled"}, {"wandb": "off"}, 1),
        ({"wandb": "off"}, [], {"WANDB_MODE": "online", "WANDB_PROJECT": "p"}, {"wandb": "off", "project": "hw1"}, 0),
        ({"wandb": "offline"}, [], {"WANDB_MODE": "online"}, {"wandb": "offline"}, 0),
        ({"wandb": "offline"}, [], {"WANDB_PROJECT": "p", "WANDB_RUN_GROUP": "g"}, {"project": "p", "group": "g"}, 2),
        ({"wandb": "offline", "project": "typed"}, ["log.project"], {"WANDB_PROJECT": "p"}, {"project": "typed"}, 0),
        ({"wandb": "offline", "tags": ["x"]}, [], {"WANDB_TAGS": "a, b"}, {"tags": ("a", "b")}, 1),
        ({"wandb": "offline"}, [], {"WANDB_PROJECT": ""}, {"project": "hw1"}, 0),
    ],
)
def test_what_was_typed_comes_before_the_environment_and_that_before_the_recipe(config, typed, environment, expected, used):
    found, variables = with_environment(LogConfig.model_validate(config), typed, environment)
    assert {key: getattr(found, key) for key in expected} == expected
    assert len(variables) == used


def test_a_variable_that_wandb_refuses_is_one_line():
    with pytest.raises(UserError, match=r"^environment: WANDB_\*: log\.project: "):
        with_environment(LogConfig(wandb="offline"), [], {"WANDB_PROJECT": "a/b"})
