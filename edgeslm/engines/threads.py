"""How many threads to compute with.

By default one for each core that can really work for this process. Not counted are

- CPUs outside its affinity, and beyond the quota of its control group or of one above it;
- second hardware threads of a core: one thread already fills the units that multiply, and as many reads from memory as
  a core has under way at a time are shared by both;
- cores of less than half the speed of the fastest, as big.LITTLE has them: threads take pieces of work as they come,
  but all wait for the last piece, which on such a core takes longer than its share of the work is worth.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from edgeslm.engines.cgroups import quota_cpus
from edgeslm.errors import ArgumentError

MAX_THREADS = 256
ROOT = Path("/")
SLOWEST = 0.5  # of the fastest core's speed


def resolve_threads(threads: int | None) -> int:
    """``threads`` if it is possible, or :func:`usable_cpus` for None.

    Raises:
        ArgumentError: not an integer in 1..256.
    """
    if threads is None:
        return usable_cpus()
    if type(threads) is not int or not 1 <= threads <= MAX_THREADS:
        raise ArgumentError(f"threads: expected 1..{MAX_THREADS}, found {threads!r}")
    return threads


def usable_cpus(root: Path = ROOT, allowed: Iterable[int] | None = None) -> int:
    """Cores that can work for this process, 1..256.

    Args:
        root: where /proc and /sys are.
        allowed: numbers of the CPUs that it may run on; None asks the system.
    """
    if allowed is None:
        allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = _fast_cores(root / "sys/devices/system/cpu", sorted(allowed))
    quota = quota_cpus(root)
    return max(1, min(cores, MAX_THREADS if quota is None else quota, MAX_THREADS))


def _fast_cores(folder: Path, allowed: list[int]) -> int:
    """Cores among the CPUs, without those much slower than the fastest; all CPUs where the system tells nothing."""
    speeds: dict[str, int] = {}  # by the CPUs that share a core
    for cpu in allowed:
        cpu_folder = folder / f"cpu{cpu}"
        siblings = _read(cpu_folder / "topology/thread_siblings_list") or str(cpu)
        speeds[siblings] = max(speeds.get(siblings, 0), _speed(cpu_folder))
    fastest = max(speeds.values(), default=0)
    return sum(speed >= SLOWEST * fastest for speed in speeds.values())


def _speed(cpu_folder: Path) -> int:
    """Of a CPU, comparable within a system: its capacity, else its highest frequency, else 0."""
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        text = _read(cpu_folder / name)
        if text.isdecimal():
            return int(text)
    return 0


def _read(path: Path) -> str:
    """A file of one line; empty where it cannot be read."""
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
