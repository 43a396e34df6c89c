"""How many threads to compute with."""

from __future__ import annotations

import os
from pathlib import Path

from edgeslm.errors import ArgumentError

MAX_THREADS = 256


def resolve_threads(threads: int | None) -> int:
    """``threads`` if it is possible, or all CPUs that this process may use for None.

    Raises:
        ArgumentError: not an integer in 1..256.
    """
    if threads is None:
        return usable_cpus()
    if type(threads) is not int or not 1 <= threads <= MAX_THREADS:
        raise ArgumentError(f"threads: expected 1..{MAX_THREADS}, found {threads!r}")
    return threads


def usable_cpus() -> int:
    """CPUs that this process may use: its affinity, and the quota of its control group."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, _cgroup_cpus(), MAX_THREADS))


def _cgroup_cpus() -> int:
    """CPUs that the control group's quota allows (Linux, cgroup v2), rounded up."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
        return MAX_THREADS if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return MAX_THREADS
