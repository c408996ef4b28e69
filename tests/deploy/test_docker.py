"""The Dockerfile without Docker: a linter, what the build takes in, the entry point, and containers in a root of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.docker_steps import DOCKERFILE, Image, Process, build, context_files, docker_stop, instructions
from helpers.paths import ROOT

sys.path.insert(0, str(ROOT / "docker"))
import entrypoint

from hw1 import __version__, cli

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
USER = "23456:34567"  # has no name anywhere
BUILT = os.environ.get("HW1_IMAGE_ROOT")
"""A root that `python tests/helpers/docker_steps.py` has made; else this machine and .venv stand in for what apt and pip install."""


# ------------------------------------------------------------------------------------------------------------ the files


@pytest.mark.parametrize("text", [DOCKERFILE.read_text(), "FROM debian\nRUN apt-get install gcc\n"])
def test_the_linter_passes_the_dockerfile_and_would_not_pass_anything(text):
    done = subprocess.run([BIN / "hadolint", "--no-color", "-"], input=text, capture_output=True, text=True)
    assert (done.returncode == 0) == (text == DOCKERFILE.read_text()), done.stdout


def test_the_base_has_a_date_and_the_user_is_a_number_other_than_root():
    found = dict(instructions())
    assert found["FROM"].split(":")[1].split("-")[1].isdigit()
    assert "0" not in found["USER"].split(":")  # a number, so that Kubernetes' runAsNonRoot can tell
    assert json.loads(found["ENTRYPOINT"])[0] == "tini"  # a list: in a shell's string SIGTERM would end with the shell


def test_dependencies_are_installed_before_the_code_comes():
    steps = [f"{name} {value}" for name, value in instructions()]
    install = next(number for number, step in enumerate(steps) if "pip install" in step)
    before = " ".join(step for step in steps[:install] if step.startswith("COPY"))
    assert "requirements.lock" in before
    assert not any(name in before for name in ("hw1", "recipes", "train.py", " . "))
    assert "-c requirements.lock" in steps[install]


def test_the_build_takes_in_the_code_and_nothing_else(tmp_path):
    names = ["Dockerfile", ".dockerignore", "train.py", "validate.py", "requirements.txt", "requirements.lock"]
    names += ["requirements-onnx.txt", "requirements-sweep.txt"]
    names += ["hw1/data/loader/shared_buffer.py", "hw1/html/page.html", "recipes/ablations/plain.yaml", "docker/entrypoint.py"]
    others = ["runs/a/seed0/config.yaml", "data/train/0/1.jpg", ".git/config", ".env", ".venv/bin/python", "hw1/__pycache__/x.pyc"]
    others += ["hw1/data/__pycache__/x.pyc", "docker/notes.txt", "tests/hw1/a.py", "wheelhouse/x.whl", "id_rsa", "docs/train.py"]
    for name in names + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shutil.copy(ROOT / ".dockerignore", tmp_path)
    assert context_files(tmp_path) == sorted(names)
    assert sum((ROOT / name).stat().st_size for name in context_files(ROOT)) < 2_000_000


# ------------------------------------------------------------------------------------------------------ the entry point


@pytest.fixture
def recipes(folder: Path) -> Path:
    (folder / "plain.yaml").write_text("{}")
    (folder / "own.yaml").write_text("data: {root: images}")
    (folder / "space.yaml").write_text("optim.lr: [1e-3, 1e-2]")
    return folder


@pytest.mark.parametrize(
    ("name", "arguments", "completed"),
    [
        ("train", "plain.yaml", "plain.yaml data.root=/data"),
        ("train", "plain.yaml train.epochs=3", "plain.yaml data.root=/data train.epochs=3"),
        ("train", "--overwrite train.epochs=3 plain.yaml", "--overwrite train.epochs=3 plain.yaml data.root=/data"),
        ("train", "plain.yaml data.root=/x", "plain.yaml data.root=/x"),
        ("train", "own.yaml", "own.yaml"),
        ("train", "own.yaml data.root=null", "own.yaml data.root=/data data.root=null"),
        ("train", "missing.yaml", "missing.yaml"),
        ("train", "finetune train.epochs=3", "finetune data.root=/data train.epochs=3"),  # recipes of the image by name and by path
        ("train", "recipes/finetune.yaml", "recipes/finetune.yaml data.root=/data"),
        ("ablate", "mixup recipes/ablations/plain.yaml --seeds 0", "mixup data.root=/data recipes/ablations/plain.yaml --seeds 0"),
        ("train", "plain.yaml train.epoch=3", "plain.yaml train.epoch=3"),  # a mistake, which train.py names
        ("ablate", "plain.yaml --seeds 0 1", "plain.yaml data.root=/data --seeds 0 1"),
        ("ablate", "plain.yaml own.yaml --seeds 0 1", "plain.yaml own.yaml --seeds 0 1"),
        ("sweep", "plain.yaml space.yaml --seeds 2", "plain.yaml data.root=/data space.yaml --seeds 2"),
        ("validate", "runs/plain.yaml", "runs/plain.yaml"),
        ("torchrun", "--nproc-per-node 2 train.py plain.yaml", f"--nproc-per-node 2 {ROOT}/train.py plain.yaml data.root=/data"),
        ("torchrun", "--help", "--help"),
    ],
)
def test_data_is_looked_for_in_its_folder_unless_the_user_says_where(recipes, name, arguments, completed):
    assert " ".join(entrypoint.complete(name, arguments.split())) == completed


def test_what_is_mounted_is_read_from_the_kernels_table(tmp_path):
    table = tmp_path / "mountinfo"
    table.write_text("36 35 98:0 / / rw - overlay overlay rw\n37 36 0:5 /mnt1 /runs rw,noatime master:1 - ext3 /dev/root rw\n")
    assert entrypoint.is_mounted("/runs", table)
    assert not entrypoint.is_mounted("/report", table)
    assert entrypoint.is_mounted("/proc")


def test_every_command_of_the_entry_point_is_there():
    for name, command in entrypoint.COMMANDS.items():
        assert name in ("torchrun", "wandb") or (command == ["-m", "hw1", name] and name in cli.COMMANDS)
    assert set(cli.COMMANDS) - set(entrypoint.COMMANDS) == {"schema", "demo"}  # of use to an editor and a browser outside
    assert all(name in str(entrypoint.__doc__) for name in (*entrypoint.COMMANDS, "bash"))


# ----------------------------------------------------------------------------------------------------------- containers


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image, in the root that was built for it; else on this machine's own system, without the steps that need a network."""
    if os.geteuid() or subprocess.run(["unshare", "--mount", "--pid", "--fork", "--net", "true"], capture_output=True).returncode:
        pytest.skip("containers need root and Linux namespaces")
    if BUILT:
        image = Image(**json.loads(Path(f"{BUILT.rstrip('/')}.json").read_text()))
        image.binds.clear()  # certificates and names of the network, which nothing needs any more
        return image
    root = tmp_path_factory.mktemp("image") / "root"
    root.mkdir()
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    image = Image(str(root))
    for name in ("usr", "bin", "sbin", "lib", "lib64", "etc"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(os.readlink(f"/{name}"))
        elif Path("/", name).is_dir():
            image.binds[f"/{name}"] = f"/{name}"
    (root / "proc").mkdir()
    (root / "dev").mkdir()
    image.binds[str(BIN.parent.resolve())] = "/opt/venv"
    if not sys.base_prefix.startswith("/usr"):
        image.binds[sys.base_prefix] = sys.base_prefix
    build(image, DOCKERFILE, {"COMMIT": "f" * 40 + "-dirty"}, skip=lambda command: "apt-get" in command or "pip install" in command)
    if not shutil.which("tini"):
        image.entrypoint = image.entrypoint[2:]
    return image


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of the host for data, runs, report and cache, of the user that the containers run as and of nobody else."""
    folder = tmp_path_factory.mktemp("host")
    found = {}
    for name in ("data", "runs", "report", "cache"):
        (folder / name).mkdir(mode=0o700)
        os.chown(folder / name, *map(int, USER.split(":")))
        found[str(folder / name)] = f"/{name}"
    return found


def finish(process: Process, seconds: float = 300) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=seconds)
    finally:
        process.kill()  # after an error here; the container goes with it
    return process.returncode, output


def read_until(process: Process, word: str) -> str:
    """What the process says up to the line with the word."""
    assert process.stdout
    said = ""
    for line in process.stdout:
        said += line
        if word in line:
            return said
    pytest.fail(f"ended with {process.wait()} and never said {word!r}:\n{said}")


TINY = ["recipes/debug.yaml", "model.name=resnet18_half_cbam"]
QUICK = [] if BUILT else ["aug.impl=albumentations"]  # numba takes seconds to compile the other


def test_a_user_without_a_name_trains_is_stopped_continues_evaluates_and_reports(image, folders):
    def start(*arguments: str) -> Process:
        return image.docker_run(*arguments, user=USER, binds=folders, env={"OMP_NUM_THREADS": "1"})

    data, runs, report, cache = map(Path, folders)
    training = start(*TINY, *QUICK, "train.epochs=200", "log.wandb=offline")
    said = read_until(training, "epoch   1/200")
    docker_stop(training)
    code, output = finish(training)
    assert code == 143, said + output
    assert "\ndevice: " in f"\n{said}"
    assert "goes with the container" not in said
    assert list((runs / "debug/seed118/wandb").glob("offline-run-*"))
    environment = json.loads((runs / "debug/seed118/env.json").read_text())
    assert environment["git"] == {"commit": "f" * 40, "modified": True}

    num_epochs = (runs / "debug/seed118/metrics.jsonl").read_text().count("\n") + 1
    code, output = finish(start(*TINY, *QUICK, f"train.epochs={num_epochs}"))
    assert code == 0, output
    assert f"continues in epoch {num_epochs}" in output

    code, output = finish(start("report", "runs", "--out", "report"))
    assert code == 0, output
    assert (report / "report.html").is_file()
    if BUILT:
        code, output = finish(start("validate", "runs/debug/seed118"))
        assert code == 0, output
        assert (runs / "debug/seed118/eval/val/index.html").is_file()
        assert list((cache / "hw1/numba").rglob("*.nbc"))
    owners = {f"{path.lstat().st_uid}:{path.lstat().st_gid}" for folder in (data, runs, report, cache) for path in folder.rglob("*")}
    assert owners == {USER}


def test_all_that_libraries_ask_of_a_user_and_a_home_is_answered(image):
    """Of one who has neither a name nor a home, in a container with nothing mounted."""
    code = """
import getpass, os, pathlib, sys, tempfile
import matplotlib, huggingface_hub.constants, platformdirs
from hw1.utils.files import cache_folder
places = [pathlib.Path.home(), matplotlib.get_cachedir(), matplotlib.get_configdir(), huggingface_hub.constants.HF_HUB_CACHE,
          platformdirs.user_cache_dir("wandb"), os.environ["TORCHINDUCTOR_CACHE_DIR"], os.environ["TRITON_CACHE_DIR"], cache_folder()]
for place in places:
    os.makedirs(place, exist_ok=True)
    tempfile.TemporaryFile(dir=place)
    assert pathlib.Path(place).is_relative_to("/cache"), place
for place in ("/data", "/runs", "/report", "/audit", "/tmp"):
    tempfile.TemporaryFile(dir=place)
print(getpass.getuser(), os.getuid(), os.path.ismount("/dev/shm"))
"""
    process = image.start(["python", "-c", code], user=USER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert finish(process) == (0, "hw1 23456 True\n")


def test_exit_codes_pass_through_and_what_would_be_lost_is_said(image):
    missing, help_, mistake, plan, absent, by_name = (
        image.docker_run(*arguments, user=USER)
        for arguments in (
            ["recipes/base.yam"],
            [],
            ["recipes/base.yaml", "train.epoch=3"],
            ["ablate", "recipes/ablations/plain.yaml", "recipes/ablations/mixup.yaml", "--seeds", "0", "1", "--dry-run"],
            ["validate", "runs/none"],
            ["finetune", "--print-config"],
        )
    )
    code, output = finish(missing)
    assert code == 2
    assert "goes with the container; docker run -v FOLDER:/runs keeps it" in output
    assert "recipes/base.yam: no such recipe; nearest: recipes/base.yaml" in output
    assert finish(help_) == (0, f"{entrypoint.__doc__}\n")
    code, output = finish(mistake)
    assert code == 2
    assert output.splitlines()[1:] == ["command line: train.epoch: unknown key; nearest: train.epochs"]
    code, output = finish(plan)
    assert code == 0, output
    assert finish(absent) == (2, "runs/none: no such folder\n")
    assert "python -m hw1 train recipes/ablations/plain.yaml data.root=/data seed=0" in output
    code, output = finish(by_name)
    assert code == 0, output
    assert "\n  root: /data\n" in output


def test_a_shell_and_wandbs_command_are_passed_on_as_they_are(image):
    shell = image.docker_run("bash", "-c", 'hw1 --version && echo "$PWD $0 $1"; exit 7', "zero", "a b", user=USER)
    client = image.docker_run("wandb", "sync", "--help", user=USER)
    assert finish(shell) == (7, f"hw1 {__version__}\n/ zero a b\n")
    code, output = finish(client)
    assert code == 0, output
    assert "wandb sync" in output


def test_the_code_cannot_be_changed_from_inside(image):
    process = image.start(["sh", "-c", "touch /app/hw1/x || touch /recipes/x || touch /opt/venv/x"], stderr=subprocess.PIPE)
    assert finish(process)[0] != 0


@pytest.mark.skipif(not BUILT, reason="HW1_IMAGE_ROOT names no built root: its compiler is what is tried")
def test_the_compiler_compiles_the_training_step(image, folders):
    compiled = [*TINY, "run.name=compiled", "train.epochs=1", "train.compile=true"]
    code, output = finish(image.docker_run(*compiled, user=USER, binds=folders), seconds=1800)
    assert code == 0, output
    assert list(Path([*folders][-1], "torchinductor").rglob("*.so"))
