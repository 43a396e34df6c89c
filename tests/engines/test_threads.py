"""The default number of threads, against recorded trees of /proc and /sys."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from edgeslm.engines.cgroups import quota_cpus
from edgeslm.engines.threads import resolve_threads, usable_cpus
from edgeslm.errors import ArgumentError

Files = Mapping[str, object]
Tree = Callable[[Files], Path]

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup ro shared:5 - tmpfs tmpfs ro,mode=755\n"
    "40 31 0:35 / /sys/fs/cgroup/cpuset rw shared:14 - cgroup cgroup rw,cpuset\n"
    "41 31 0:36 / /sys/fs/cgroup/cpu,cpuacct rw shared:15 - cgroup cgroup rw,cpu,cpuacct\n"
)
HYBRID = V1 + "42 31 0:37 / /sys/fs/cgroup/unified rw shared:6 - cgroup2 cgroup2 rw\n"
DOCKER_V1 = "41 31 0:36 /docker/ab12 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
SPACES = r"30 23 0:26 / /sys/fs/my\040groups rw - cgroup2 cgroup2 rw" + "\n"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Writes files (path → content) below a root, and returns it."""

    def write(files: Files) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(content))
        return tmp_path

    return write


def v1(group: str, quota: int, period: int = 100_000) -> Files:
    folder = f"sys/fs/cgroup/cpu,cpuacct{group}"
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


CGROUPS: dict[str, tuple[str, str, Files, int | None]] = {
    "none": ("", "", {}, None),
    "v2 root": (V2, "0::/\n", {"sys/fs/cgroup/cpu.stat": ""}, None),
    "v2 container": (V2, "0::/\n", {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
    "v2 fraction": (V2, "0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
    "v2 no limit": (V2, "0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
    "v2 own": (V2, "0::/user.slice/app\n", {"sys/fs/cgroup/user.slice/app/cpu.max": "300000 100000\n"}, 3),
    "v2 above": (
        V2,
        "0::/kube/pod/box\n",
        {
            "sys/fs/cgroup/kube/cpu.max": "800000 100000\n",
            "sys/fs/cgroup/kube/pod/cpu.max": "50000 25000\n",
            "sys/fs/cgroup/kube/pod/box/cpu.max": "max 100000\n",
            "sys/fs/cgroup/other/cpu.max": "100000 100000\n",
        },
        2,
    ),
    "v2 outside of the mount": (V2, "0::/../../system\n", {"sys/fs/cgroup/cpu.max": "100000 100000\n"}, None),
    "v2 elsewhere": (SPACES, "0::/a\n", {"sys/fs/my groups/a/cpu.max": "400000 100000\n"}, 4),
    "v1": (V1, "3:cpuset:/x\n2:cpu,cpuacct:/a/b\n", {**v1("/a/b", -1), **v1("/a", 250_000), **v1("", -1)}, 3),
    "v1 no limit": (V1, "2:cpu,cpuacct:/\n", v1("", -1), None),
    "v1 docker": (
        DOCKER_V1,
        "2:cpu:/docker/ab12\n",
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "600000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
        6,
    ),
    "v1 beside v2": (HYBRID, "2:cpu,cpuacct:/a\n0::/a\n", v1("/a", 100_000), 1),
    "nonsense": (V2 + "x\n\n", "0::/\n:\n", {"sys/fs/cgroup/cpu.max": "1 0 7"}, None),
}


@pytest.mark.parametrize(("mounts", "own", "files", "expected"), CGROUPS.values(), ids=CGROUPS)
def test_quota(tree: Tree, mounts: str, own: str, files: Files, expected: int | None) -> None:
    root = tree({"proc/self/mountinfo": mounts, "proc/self/cgroup": own, **files})
    assert quota_cpus(root) == expected
    assert usable_cpus(root, range(64)) == (64 if expected is None else expected)


def cpus(name: str, values: list[int], siblings: list[str] | None = None) -> Files:
    """One file for each CPU, and the CPUs of its core (each its own by default)."""
    folder = "sys/devices/system/cpu/cpu"
    own = siblings or [str(cpu) for cpu in range(len(values))]
    files = {f"{folder}{cpu}/{name}": f"{value}\n" for cpu, value in enumerate(values)}
    return files | {f"{folder}{cpu}/topology/thread_siblings_list": f"{s}\n" for cpu, s in enumerate(own)}


FREQUENCY = "cpufreq/cpuinfo_max_freq"
CORES: dict[str, tuple[Files, list[int], int]] = {
    "nothing told": ({}, [0, 1, 2], 3),
    "no cpu at all": ({}, [], 1),
    "Raspberry Pi 5": (cpus("cpu_capacity", [1024] * 4), [0, 1, 2, 3], 4),
    "RK3588: four A55, four A76": (cpus("cpu_capacity", [414] * 4 + [1024] * 4), list(range(8)), 4),
    "Tensor G3: four little, four mid, one prime": (
        cpus("cpu_capacity", [160] * 4 + [680] * 4 + [1024]),
        list(range(9)),
        5,
    ),
    "its little ones alone": (cpus("cpu_capacity", [160] * 4 + [680] * 4 + [1024]), [0, 1, 2, 3], 4),
    "frequencies": (cpus(FREQUENCY, [900_000] * 2 + [2_000_000] * 2), [0, 1, 2, 3], 2),
    "frequencies of one kind": (cpus(FREQUENCY, [3_900_000, 5_100_000]), [0, 1], 2),
    "two threads a core": (cpus("cpu_capacity", [1024] * 4, ["0,2", "1,3", "0,2", "1,3"]), [0, 1, 2, 3], 2),
    "one of two threads": (cpus("cpu_capacity", [1024] * 4, ["0-1", "0-1", "2-3", "2-3"]), [1, 2], 2),
    "hybrid": (
        cpus("cpu_capacity", [1024] * 4 + [600] * 4, ["0-1", "0-1", "2-3", "2-3", *"4567"]),
        list(range(8)),
        6,
    ),
}


@pytest.mark.parametrize(("files", "allowed", "expected"), CORES.values(), ids=CORES)
def test_cores(tree: Tree, files: Files, allowed: list[int], expected: int) -> None:
    assert usable_cpus(tree(files), allowed) == expected


def test_quota_and_cores_together(tree: Tree) -> None:
    root = tree(
        {
            "proc/self/mountinfo": V2,
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "300000 100000\n",
            **cpus("cpu_capacity", [1024] * 8),
        }
    )
    assert usable_cpus(root, range(8)) == 3
    assert usable_cpus(root, [5]) == 1


def test_here() -> None:
    assert 1 <= usable_cpus() <= min(256, os.cpu_count() or 256)
    assert resolve_threads(None) == usable_cpus() and resolve_threads(7) == 7
    for bad in (0, 257, True, 2.0):
        with pytest.raises(ArgumentError, match="threads"):
            resolve_threads(bad)  # type: ignore[arg-type]
