"""Memory that can be had, from trees of /proc and /sys as systems have them."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from edgeslm.capacity import Limit, available_bytes, limits

MEMINFO = "MemTotal: 8000000 kB\nMemFree: 100 kB\nMemAvailable: 5000000 kB\nSwapTotal: 90000 kB\nSwapFree: 40960 kB\n"
STATUS = "Name: python\nVmSize:  300000 kB\nVmData:   50000 kB\n"
V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"
MOUNTS = {
    "v2": "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n",
    "v1": "35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n",
    "hybrid": "40 31 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
}
MIB = 1 << 20


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in {"proc/meminfo": MEMINFO, "proc/self/status": STATUS, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def group_limits(root: Path) -> list[tuple[int, str]]:
    return [(limit.bytes, limit.what) for limit in limits(root) if "group" in limit.what]


@pytest.fixture(autouse=True)
def no_own_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_a_machine_without_groups_has_what_is_available_and_its_swap(tmp_path: Path) -> None:
    assert limits(tree(tmp_path, {})) == [Limit(5040960 * 1024, "memory of this machine")]
    assert available_bytes(tmp_path) == 5040960 * 1024


def test_the_tightest_group_above_this_one_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/mountinfo": MOUNTS["v2"],
        "proc/self/cgroup": "0::/user.slice/app.scope\n",
        f"{V2}/user.slice/memory.max": f"{512 * MIB}\n",
        f"{V2}/user.slice/memory.current": f"{300 * MIB}\n",
        f"{V2}/user.slice/memory.stat": f"anon 1\ninactive_file {100 * MIB}\nactive_file {50 * MIB}\n",
        f"{V2}/user.slice/app.scope/memory.max": "max\n",
        f"{V2}/user.slice/app.scope/memory.current": f"{200 * MIB}\n",
    }
    root = tree(tmp_path, files)
    assert group_limits(root) == [(362 * MIB, "memory of control group user.slice (memory.max)")]
    assert available_bytes(root) == 362 * MIB
    files = {
        f"{V2}/user.slice/memory.swap.max": f"{80 * MIB}\n",
        f"{V2}/user.slice/memory.swap.current": f"{70 * MIB}\n",
    }
    assert available_bytes(tree(tmp_path, files)) == 372 * MIB
    files = {f"{V2}/user.slice/memory.swap.current": "0\n"}
    assert available_bytes(tree(tmp_path, files)) == (362 + 40) * MIB  # no more than the machine has


def test_a_hybrid_system_and_version_1(tmp_path: Path) -> None:
    files = {
        "proc/self/mountinfo": MOUNTS["hybrid"] + MOUNTS["v1"],
        "proc/self/cgroup": "5:devices:/\n4:memory:/jobs/7\n0::/\n",
        f"{V1}/memory.limit_in_bytes": "9223372036854771712\n",
        f"{V1}/jobs/memory.limit_in_bytes": f"{256 * MIB}\n",
        f"{V1}/jobs/memory.usage_in_bytes": f"{400 * MIB}\n",
        f"{V1}/jobs/memory.stat": f"total_inactive_file {100 * MIB}\ntotal_active_file {60 * MIB}\n",
        f"{V1}/jobs/7/memory.limit_in_bytes": "9223372036854771712\n",
    }
    assert group_limits(tree(tmp_path, files)) == [(16 * MIB, "memory of control group jobs (memory.limit_in_bytes)")]


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    files = {
        "proc/self/mountinfo": MOUNTS["v2"],
        "proc/self/cgroup": "0::/\n",
        f"{V2}/memory.max": f"{64 * MIB}\n",
        f"{V2}/memory.current": f"{80 * MIB}\n",
    }
    assert [size for size, _ in group_limits(tree(tmp_path, files))] == [0]


def test_limits_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {resource.RLIMIT_AS: 400000 * 1024, resource.RLIMIT_DATA: 40000 * 1024}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (found[kind], resource.RLIM_INFINITY))
    own = limits(tree(tmp_path, {}))[1:]
    assert own == [
        Limit(100000 * 1024, "address space (ulimit -v)", of_addresses=True, of_files=True),
        Limit(0, "data (ulimit -d)", of_addresses=False, of_files=False),
    ]


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    assert limits(tmp_path) == [] and available_bytes(tmp_path) is None


def test_here() -> None:
    assert (available_bytes() or 0) > 0
