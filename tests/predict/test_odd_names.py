"""Names that are patterns, formulas or commands to a terminal: found, shown and drawn, and nothing else."""

import csv
import json
import os
import shutil

import pytest
from helpers.model_runs import call, make_run, read_json

from hw1.predict.__main__ import main
from hw1.predict.find_images import find_images

NAMES = ["=ant", "bee"]
ODD = ["=cmd|x.png", "@x.png", "-1.png", "a\x1b[2Jb.png", "c\u2029d.png", "e\nf.png", "plain.png"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    return make_run(tmp_path_factory.mktemp("runs"), data, NAMES)


@pytest.fixture
def odd_files(image, folder):
    for name in ODD:
        shutil.copy(image, folder / name)
    return ODD


def test_a_path_that_exists_is_no_pattern(image, folder):
    """Neither a file, nor the folder before a pattern; what the pattern itself means stays."""
    for name in ("photos [1]", "photos 1", "[ab]", "x[", "deep [a]/b [c]"):
        (folder / name).mkdir(parents=True)
        shutil.copy(image, folder / name / "a.png")
        shutil.copy(image, folder / name / "[b].png")

    def found(pattern: str) -> list[str]:
        return sorted(str(path) for path in find_images([pattern]))

    assert found("photos [1]/*.png") == ["photos [1]/[b].png", "photos [1]/a.png"]
    assert found(str(folder / "photos [1]/a.*")) == [str(folder / "photos [1]/a.png")]
    assert found("photos [1]/[b].png") == ["photos [1]/[b].png"]
    assert found("deep [a]/b [c]/?.png") == ["deep [a]/b [c]/a.png"]
    assert found("deep [a]/**/a.png") == ["deep [a]/b [c]/a.png"]
    assert found("[ab]/*a.png") == ["[ab]/a.png"]
    assert found("x[/*.png") == ["x[/[b].png", "x[/a.png"]
    assert found("photos [12]/a.png") == ["photos 1/a.png"]
    assert found("photos*/a.png") == ["photos 1/a.png", "photos [1]/a.png"]


def test_cells_are_text_and_json_has_the_names(run, odd_files, folder):
    for name in ("p.csv", "p.json"):
        assert call(main, run.path, *(f"./{name}" if name.startswith("-") else name for name in odd_files), "--out", name).returncode == 0
    with open("p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [
        "'=cmd|x.png",
        "'@x.png",
        "'-1.png",
        "a\\x1b[2Jb.png",
        "c\\u2029d.png",
        "e\\x0af.png",
        "plain.png",
    ]
    assert {row["class_1"] for row in rows} | {row["class_2"] for row in rows} == {"'=ant", "bee"}
    assert all(0 <= float(row["probability_1"]) <= 1 for row in rows)
    assert [row["file"] for row in read_json(folder / "p.json")] == odd_files
    assert not any(byte == 0x1B for byte in (folder / "p.csv").read_bytes())


def test_lines_have_no_control_characters(run, odd_files):
    result = call(main, run.path, *(f"./{name}" for name in odd_files), "--top", "1")
    assert len(result.stdout.splitlines()) == len(odd_files)
    assert result.stdout.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"bee": "a\nb\u2029c\x1b[1m\r", "=ant": "\u2028"}),
        json.dumps({"bee": ["x"], "=ant": 7}),
        "[" * 200_000,
        '{"bee": ' * 200_000,
        "[1]",
        "\x00",
    ],
    ids=["controls", "no text", "deep lists", "deep objects", "a list", "a byte"],
)
def test_descriptions_are_one_line_wherever_they_are_shown(run, odd_files, folder, content):
    path = os.path.join(run.read_recipe().data.root, "class_names.json")
    with open(path, "w") as file:
        file.write(content)
    result = call(main, run.path, *(f"./{name}" for name in odd_files), "--draw", "drawn", "--out", "p.csv")
    os.unlink(path)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(list((folder / "drawn").iterdir())) == len(odd_files)
    with open("p.csv", newline="") as file:
        shown = {row[f"name_{k}"] for row in csv.DictReader(file) for k in (1, 2)}
    assert shown <= {"'=ant", "bee", "a b c?[1m ", " "}
    assert all(text.isprintable() for text in shown)


def test_a_killed_drawing_leaves_nothing_once_it_is_called_again(run, image, folder):
    for name in (".drawn.0123abcd.new", ".other.0123abcd.new"):
        (folder / name).mkdir()
        (folder / name / "0").touch()
    assert call(main, run.path, image, "--draw", "drawn").returncode == 0
    assert sorted(os.listdir(folder)) == [".other.0123abcd.new", "drawn"]
    assert os.listdir("drawn") == ["a.png.jpg"]
