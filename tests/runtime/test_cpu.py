"""How many cores count as usable, and how many loader processes that gives."""

import os
from pathlib import Path

import pytest
import torch

from hw1.runtime import cpu
from hw1.runtime.cpu import default_num_workers, limit_threads, usable_cores


def cgroup(tmp_path: Path, membership: str, **files: str) -> dict[str, Path]:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "self").write_text(membership)
    return {"cgroups": tmp_path / "cgroup", "membership": tmp_path / "self"}


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 8),
        ("0::/job/step\n", {"job__cpu.max": "300000 100000\n", "job__step__cpu.max": "max 100000\n"}, 3),
        ("0::/docker/of-the-host\n", {"cpu.max": "400000 100000\n"}, 4),
        ("3:cpu,cpuacct:/a\n1:name=systemd:/\n", {"cpu__a__cpu.cfs_quota_us": "500000\n", "cpu__a__cpu.cfs_period_us": "100000\n"}, 5),
        ("3:cpu,cpuacct:/a\n", {"cpu__a__cpu.cfs_quota_us": "-1\n", "cpu__a__cpu.cfs_period_us": "100000\n"}, 8),
        ("4:cpuset:/a\n", {"cpu__a__cpu.cfs_quota_us": "100000\n", "cpu__a__cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_usable_cores_are_those_of_affinity_and_quota(monkeypatch, tmp_path, membership, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert usable_cores(**cgroup(tmp_path, membership, **files)) == expected


@pytest.mark.parametrize(("share", "expected"), [("3", 3), ("1", 1), ("0", 1), ("100", 8), ("", 8), ("all", 8)])
def test_usable_cores_are_no_more_than_the_share_that_was_given(monkeypatch, tmp_path, share, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setenv("HW1_CORES", share)
    assert usable_cores(**cgroup(tmp_path, "0::/\n")) == expected


def test_usable_cores_follow_the_affinity():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(("cores", "on_cuda"), [(1, 1), (2, 1), (4, 3), (16, 15), (64, 16)])
def test_default_number_of_processes(monkeypatch, cores, on_cuda):
    monkeypatch.setattr(cpu, "usable_cores", lambda: cores)
    assert default_num_workers(torch.device("cuda")) == on_cuda
    assert default_num_workers(torch.device("cpu")) <= 1


def test_torch_has_no_more_threads_than_cores_and_no_more_than_it_had(monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for cores, expected in ((8, 3), (2, 2), (1, 1), (8, 1)):
            monkeypatch.setattr(cpu, "usable_cores", lambda cores=cores: cores)
            limit_threads()
            assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
