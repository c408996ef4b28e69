"""Files found by what tables call them."""

import unicodedata
from pathlib import Path

import pytest
from helpers.folder_trees import make

from hw1.data.match_files import NUM_KEPT, is_outside, match_files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = (
        "a.jpg",
        "b.tar.png",
        "noext",
        "in/a.jpg",
        "in/deep/c.jpg",
        "in/d.jpg",
        "in/d.png",
        ".hidden/h.jpg",
        "notes.txt",
        "in/x\\y.jpg",
    )
    return make(tmp_path / "images", *files, f"in/{unicodedata.normalize('NFD', 'é')}.jpg")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.jpg", ["a.jpg"]),
        ("./in//a.jpg", ["in/a.jpg"]),
        ("in\\deep\\c.jpg", ["in/deep/c.jpg"]),
        ("in/x\\y.jpg", ["in/x\\y.jpg"]),
        ("a", ["a.jpg"]),
        ("in/a", ["in/a.jpg"]),
        ("b.tar", ["b.tar.png"]),
        ("noext", ["noext"]),
        ("c.jpg", ["in/deep/c.jpg"]),
        ("deep/c", ["in/deep/c.jpg"]),
        ("in/d", ["in/d.jpg", "in/d.png"]),
        ("d", ["in/d.jpg", "in/d.png"]),
        (".hidden/h.jpg", [".hidden/h.jpg"]),
        ("notes.txt", ["notes.txt"]),
        ("notes", []),
        ("A.jpg", []),
        ("eep/c.jpg", []),
        ("../images/a.jpg", []),
        ("", []),
        (unicodedata.normalize("NFC", "é"), [f"in/{unicodedata.normalize('NFD', 'é')}.jpg"]),
    ],
)
def test_a_name_stands_for_these_files(root, name, found):
    [matched] = match_files([name], root)
    assert sorted(matched) == found


def test_absolute_paths_are_those_in_the_root(root):
    assert match_files([str(root / "in/a.jpg"), str(root.parent / "a.jpg"), "/a.jpg"], root) == [["in/a.jpg"], [], []]
    for name in ("../a.jpg", "/a.jpg", "..", "in/../../a.jpg", "C:\\photos\\a.jpg", str(root.parent / "a.jpg")):
        assert is_outside(name, root), name
    for name in ("a.jpg", "..a.jpg", "in/../a.jpg", str(root / "a.jpg")):
        assert not is_outside(name, root), name


def test_links_are_followed_and_circles_end(root):
    (root / "in/linked").symlink_to(root / "in/deep")
    (root / "in/deep/up").symlink_to(root)
    assert match_files(["in/linked/c.jpg", "in/deep/up/a.jpg"], root)[0] == ["in/linked/c.jpg"]


def test_the_folder_is_listed_once_and_no_file_asked_for(root, monkeypatch):
    """A stat for each of 200,000 names takes minutes on a network disk."""
    monkeypatch.setattr("os.path.isfile", None)
    monkeypatch.setattr("os.path.exists", None)
    names = [f"missing/{number}" for number in range(1000)] + ["c"] * 1000
    assert match_files(names, root) == [[]] * 1000 + [["in/deep/c.jpg"]] * 1000


def test_one_name_of_very_many_files_is_quickly_ambiguous(tmp_path):
    root = make(tmp_path, *(f"{number}/0.jpg" for number in range(200)))
    found = match_files(["0"] * 20_000, root)
    assert all(len(each) == NUM_KEPT for each in found)
