"""Runs on disks with little room."""

import subprocess
from pathlib import Path

from helpers.paths import ROOT
from helpers.train_commands import command

PAGE = 4096
MIB = 1 << 20


def on_a_disk(
    disk: Path, started: Path, out: Path, *, room: int, then: str = ":", recipe: Path, epochs: int = 3
) -> subprocess.CompletedProcess[str]:
    """Continues the run on a tmpfs with room for so many bytes more, `then` done to it first; its folder is copied to `out` after."""
    train = subprocess.list2cmdline(command("train.py", recipe, f"run.dir={disk}/runs", f"train.epochs={epochs}"))
    size = room + sum(-(-path.stat().st_size // PAGE) * PAGE for path in started.rglob("*") if path.is_file())
    script = f"""
        mount -t tmpfs -o size={size} tmpfs {disk} && cp -r {started} {disk}/runs && {then} && {{ {train}; code=$?; }}
        mount -o remount,size=1g,rw {disk}; cp -r {disk}/runs {out}; exit $code"""
    return subprocess.run(["unshare", "-m", "bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)


def once_saved(disk: Path, act: str) -> str:
    """Bash that does `act` beside the run as soon as its process has saved a state of its own."""
    folder = disk / "runs" / "tiny" / "seed5" / "checkpoints"
    newer = f'[ -n "$(find {folder} -name "epoch*.pt" -newer {disk}/now)" ]'
    return f"{{ sleep 0.1; touch {disk}/now; (until {newer}; do sleep 0.02; done; {act}) & }}"


def read_only(folder: Path) -> str:
    return f"mount --bind {folder} {folder}; mount -o remount,bind,ro {folder}"


def checkpoints(runs: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (runs / "tiny" / "seed5" / "checkpoints").iterdir()}
