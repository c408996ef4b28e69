"""Carries out the Dockerfile without Docker: its own lines, in a root of their own, and processes in it as `docker run` starts them.

    python tests/helpers/docker_steps.py FOLDER            # on a fresh Debian from debootstrap: root, network, 10 GB, 15 minutes
    HW1_IMAGE_ROOT=FOLDER python -m pytest tests/deploy/test_docker.py  # then tries it

Needs root and Linux namespaces. What is not Docker's: layers, registries, and GPUs.
"""

import json
import os
import shlex
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from docker.utils.build import exclude_paths  # Docker's own reading of .dockerignore
from dockerfile_parse import DockerfileParser

from helpers.paths import ROOT

DOCKERFILE = ROOT / "Dockerfile"

# /proc, /dev and /dev/shm as Docker makes them. $1: the root; then pairs of folders to bind until --, then the command. Mounts and
# processes end with the namespaces.
PREPARE = """
root=$1; shift
! [ -x /usr/sbin/ip ] || [ -n "$NETWORK" ] || ip link set lo up
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for each in null zero full random urandom tty; do : > "$root/dev/$each"; mount --bind "/dev/$each" "$root/dev/$each"; done
ln -s /proc/self/fd "$root/dev/fd"
mkdir -m 1777 "$root/dev/shm"; mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/dev/shm"
while [ "$1" != -- ]; do mount --rbind "$1" "$root/$2"; shift 2; done
shift
exec "$@"
"""


@dataclass
class Image:
    """A root folder with the settings of the processes in it, as the steps so far have left them."""

    root: str
    env: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
    workdir: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    binds: dict[str, str] = field(default_factory=dict)
    """Folders and files of this machine that every process sees, and where."""

    def start(self, command: Sequence[str], *, user: str = "", binds: Mapping[str, str] | None = None, **options: Any) -> "Process":
        """Starts the command as process 1 of namespaces of its own, with none of this process's environment and without a network."""
        pairs = {**self.binds, **(binds or {})}
        for source, target in pairs.items():
            place = self.path(target)
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.mkdir() if Path(source).is_dir() else place.touch()
        network = options.pop("network", False)
        env = self.env | options.pop("env", {})
        command = [
            *("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", *([] if network else ["--net"])),
            *("sh", "-euc", PREPARE, "sh", self.root, *(text for pair in pairs.items() for text in pair), "--"),
            *("chroot", f"--userspec={user or self.user}", "--groups=", self.root),
            *("/usr/bin/env", "-i", f"--chdir={self.workdir}", *(f"{name}={value}" for name, value in env.items()), *command),
        ]
        outside = {**os.environ, "NETWORK": "yes" if network else ""}
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True, env=outside, **options)

    def docker_run(self, *arguments: str, **options: Any) -> "Process":
        """`docker run IMAGE ARGUMENTS...`, with stdout and stderr joined in a pipe."""
        return self.start([*self.entrypoint, *(arguments or self.cmd)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)

    def path(self, inside: str) -> Path:
        return Path(self.root, inside.lstrip("/"))


Process = subprocess.Popen[str]


def docker_stop(process: Process) -> None:
    """SIGTERM to process 1 of the namespaces."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), 15)


def instructions(dockerfile: Path = DOCKERFILE) -> list[tuple[str, str]]:
    """(INSTRUCTION, value) in order, continuations joined and comments left out."""
    with dockerfile.open("rb") as file:
        structure = DockerfileParser(fileobj=file).structure
    return [(each["instruction"], each["value"]) for each in structure if each["instruction"] != "COMMENT"]


def build(image: Image, dockerfile: Path, args: Mapping[str, str], skip: Callable[[str], bool] = lambda command: False) -> None:
    """Carries out every instruction but the RUNs that `skip` names. Raises `ValueError` for one that is not known here."""
    known = dict(args)
    for instruction, value in instructions(dockerfile):
        filled = string.Template(value).safe_substitute(known | image.env)
        match instruction:
            case "FROM" | "LABEL":
                pass
            case "ARG":
                name, _, default = filled.partition("=")
                known.setdefault(name, default)
            case "ENV":
                for text in shlex.split(filled):
                    name, _, setting = text.partition("=")
                    image.env[name] = setting
            case "WORKDIR":
                image.workdir = filled
                image.path(filled).mkdir(parents=True, exist_ok=True)
            case "USER":
                image.user = filled
            case "COPY":
                *sources, target = filled.split()
                copy(dockerfile.parent, sources, f"{image.root}{os.path.join(image.workdir, target)}")
            case "RUN":
                if not skip(value):
                    print(f"RUN {value}", file=sys.stderr, flush=True)
                    if code := image.start(["/bin/sh", "-c", value], network=True).wait():
                        raise RuntimeError(f"exit code {code}: {value}")
            case "ENTRYPOINT":
                image.entrypoint = json.loads(value)
            case "CMD":
                image.cmd = json.loads(value)
            case _:
                raise ValueError(f"{dockerfile}: {instruction}: not known to {__file__}")


def copy(context: Path, sources: Sequence[str], target: str) -> None:
    """COPY into a folder, whose name ends in /: of folders what is in them, files themselves. Raises for what the context has not."""
    if not target.endswith("/"):
        raise ValueError(f"COPY {' '.join(sources)} {target}: a target that does not end in / is not known to {__file__}")
    sent = context_files(context)
    for source in sources:
        chosen = [name for name in sent if name == source or name.startswith(f"{source.rstrip('/')}/")]
        if not chosen:
            raise FileNotFoundError(f"COPY {source}: not in the build context")
        for name in chosen:
            place = Path(target, Path(name).name if name == source else Path(name).relative_to(source))
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(context / name, place)


def context_files(context: Path) -> list[str]:
    """What `docker build` sends: the files that .dockerignore lets through."""
    lines = (context / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    return sorted(name for name in exclude_paths(str(context), patterns) if (context / name).is_file())


def main(folder: Path) -> None:
    """Builds the image in `folder` and leaves its settings in FOLDER.json."""
    release = dict(instructions())["FROM"].removeprefix("debian:").partition("-")[0]  # debian:RELEASE-DATE-slim comes from debootstrap too
    if not (folder / "usr").exists():
        subprocess.run(["debootstrap", "--variant=minbase", release, str(folder)], check=True)
    image = Image(str(folder), binds={"/etc/resolv.conf": "/etc/resolv.conf"})
    if certificates := os.environ.get("PIP_CERT"):  # a network with an authority of its own
        image.binds[certificates] = "/etc/pip.pem"
        image.env["PIP_CERT"] = "/etc/pip.pem"
    started = time.monotonic()
    build(image, DOCKERFILE, {"COMMIT": "f" * 40 + "-dirty"})
    Path(f"{folder}.json").write_text(json.dumps(asdict(image), indent=1))
    print(f"{folder}: built in {(time.monotonic() - started) / 60:.0f} min")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
