"""`make wheelhouse` and its install script, on small wheels made here; the machine without internet is a network namespace."""

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers.paths import ROOT

BIN = Path(sys.executable).parent
MAKE = ["make", "--silent", "wheelhouse", "ALL=", f"BIN={BIN}"]


def make_wheel(folder: Path, name: str, version: str, tag: str = "py3-none-any", *requires: str) -> None:
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": "".join(
            [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", *(f"Requires-Dist: {r}\n" for r in requires)]
        ),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with this one's Makefile and script, whose packages, in a folder instead of a registry, are small."""
    registry = tmp_path / "registry"
    registry.mkdir()
    make_wheel(registry, "small", "1.0")
    make_wheel(registry, "small", "2.0")  # newer than the lock has it
    make_wheel(registry, "inner", "1.0")
    make_wheel(registry, "newer", "1.0")
    for python, machine in (("cp311", "x86_64"), ("cp312", "x86_64"), ("cp312", "aarch64")):
        make_wheel(registry, "compiled", "1.0", f"{python}-{python}-manylinux_2_17_{machine}", "inner", "newer; python_version >= '3.12'")
    folder = tmp_path / "project"
    (folder / "docs/offline").mkdir(parents=True)
    for name in ("Makefile", "docs/offline/install.sh"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "requirements.txt").write_text("small\n")
    (folder / "requirements-onnx.txt").write_text("compiled\n")
    (folder / "requirements-dev.txt").write_text("")
    (folder / "requirements.lock").write_text("compiled==1.0\ninner==1.0\nnewer==1.0 ; python_full_version >= '3.12'\nsmall==1.0\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


def collect(project: Path, *variables: str) -> set[str]:
    registry = project.parent / "registry"
    sources = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(registry), "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(registry)}
    env = {**os.environ, **sources, "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}
    done = subprocess.run([*MAKE, *variables], cwd=project, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.name for path in (project / "wheelhouse").glob("*.whl")}


def test_the_wheels_are_the_locked_ones_for_the_python_and_the_processor_asked_for(project):
    plain = {"small-1.0-py3-none-any.whl", "inner-1.0-py3-none-any.whl"}
    assert collect(project, "WHEEL_PYTHON=3.11") == {*plain, "compiled-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"}
    chosen = collect(project, "WHEEL_PYTHON=3.12", "WHEEL_MACHINE=aarch64")
    assert chosen == {*plain, "newer-1.0-py3-none-any.whl", "compiled-1.0-cp312-cp312-manylinux_2_17_aarch64.whl"}
    wheelhouse = project / "wheelhouse"
    sums = dict(reversed(line.split("  ")) for line in (wheelhouse / "SHA256SUMS").read_text().splitlines())
    assert sums == {name: hashlib.sha256((wheelhouse / name).read_bytes()).hexdigest() for name in {*chosen, "hw1.tar.gz", "install.sh"}}
    with tarfile.open(wheelhouse / "hw1.tar.gz") as archive:
        assert {"hw1/Makefile", "hw1/requirements.lock"} < set(archive.getnames())


def test_a_machine_without_internet_installs_from_it(project):
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    collect(project, f"WHEEL_PYTHON={here}")
    offline = [] if os.geteuid() or subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode else ["unshare", "--net"]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))} | {"PYTHON": sys.executable}
    command = [*offline, "sh", "wheelhouse/install.sh", "there"]

    def install() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, cwd=project.parent, env=env, capture_output=True, text=True, timeout=600)

    (project / "wheelhouse").rename(project.parent / "wheelhouse")
    done = install()
    assert done.returncode == 0, done.stdout + done.stderr
    ask = "import small, compiled, inner; print(small.version)"
    python = project.parent / "there/hw1/.venv/bin/python"
    assert subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout == "1.0\n"

    with open(project.parent / "wheelhouse/inner-1.0-py3-none-any.whl", "ab") as file:
        file.write(b"!")
    broken = install()
    assert broken.returncode != 0
    assert "inner-1.0-py3-none-any.whl: FAILED" in broken.stdout


def test_the_table_of_weights_is_what_timm_would_download():
    from timm.models import get_pretrained_cfg  # takes seconds

    import hw1.models  # noqa: F401  registers the models

    rows = re.findall(r"\| `(\w+)` \| `(timm/[\w.]+)` \| `weights/([\w.]+)\.safetensors` \|", (ROOT / "docs/guide/offline.md").read_text())
    assert len(rows) == 4
    for name, repository, kept in rows:
        cfg = get_pretrained_cfg(name)
        assert cfg is not None
        assert cfg.hf_hub_id == repository == f"timm/{kept}"
