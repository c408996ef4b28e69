"""Archives in the place of a folder: the command that unpacks them is said, and does it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.folder_trees import config, make, problems

from hw1.audit.__main__ import main as audit
from hw1.data.archives import unpack_hint
from hw1.errors import UserError
from hw1.predict.find_images import find_images


@pytest.mark.parametrize(("form", "suffix"), [("zip", ".zip"), ("tar", ".tar"), ("gztar", ".tar.gz"), ("xztar", ".tar.xz")])
def test_the_command_unpacks_it_and_the_key_names_the_folder(tmp_path, form, suffix):
    make(tmp_path / "source", *(f"{name}/{i}.jpg" for name in "ab" for i in range(3)))
    archive = tmp_path / f"my photos{suffix}"
    assert shutil.make_archive(str(tmp_path / "my photos"), form, tmp_path / "source") == str(archive)
    [problem] = problems(config(archive), 0, None)
    start = f"data.root: {archive}: an archive; unpack it: "
    assert problem.startswith(start)
    command, _, end = problem.removeprefix(start).partition(", and then ")
    assert end == f"set data.root='{tmp_path}/my photos'"
    if shutil.which(command.split()[0]):
        subprocess.run(command, shell=True, check=True, capture_output=True)
        assert problems(config(tmp_path / "my photos" / "a"), 0, None)
        assert sorted(path.name for path in (tmp_path / "my photos/a").iterdir()) == ["0.jpg", "1.jpg", "2.jpg"]


def test_it_is_said_wherever_a_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photos.tgz").touch()
    expected = r"^photos\.tgz: an archive; unpack it: mkdir photos && tar -xf photos\.tgz -C photos, and then name photos$"
    with pytest.raises(UserError, match=expected):
        find_images(["photos.tgz"])
    with pytest.raises(UserError, match=expected):
        audit(["photos.tgz"])


def test_a_folder_or_another_file_is_no_archive(tmp_path):
    make(tmp_path, "folder.zip/", "a.jpg")
    assert [unpack_hint(tmp_path / name, "") for name in ("folder.zip", "a.jpg", "missing.zip")] == ["", "", ""]
