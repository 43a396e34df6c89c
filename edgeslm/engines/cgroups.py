"""This process's control groups, and the CPU quota of them (Linux).

A group is limited by its own quota and by that of every group above it, so the smallest counts. Both versions may be
mounted at once. Formats: the kernel's Documentation, admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst
(cpu.cfs_*); proc(5).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def quota_cpus(root: Path) -> int | None:
    """CPUs that the quotas allow, rounded up: a fraction of a CPU is time too. None: no limit, or no control groups.

    ``root`` is where /proc and the mounts are.
    """
    shares = [share for folder in groups(root, "cpu") if (share := _share(folder)) is not None]
    return math.ceil(min(shares)) if shares else None


def groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's groups that may limit what a controller is for ("cpu", "memory"), and of those above.

    ``root`` is where /proc and the mounts are.
    """
    for fs_type, mount_root, mount_point, options in _mounts(root):
        path = _own_path(root, fs_type, controller) if fs_type == "cgroup2" or controller in options else None
        if path is None:
            continue
        top = root / mount_point.relative_to("/")
        yield top
        inside = path.relative_to(mount_root).parts if path.is_relative_to(mount_root) else ()
        for depth in range(1, len(inside) + 1):
            yield top.joinpath(*inside[:depth])


def _mounts(root: Path) -> Iterator[tuple[str, PurePosixPath, PurePosixPath, list[str]]]:
    """File system type, root within it, mount point and options of every mounted hierarchy."""
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, last = before.split(" "), after.split(" ")
        if len(fields) >= 5 and len(last) >= 3 and last[0] in ("cgroup", "cgroup2") and fields[4].startswith("/"):
            yield last[0], PurePosixPath(_unescape(fields[3])), PurePosixPath(_unescape(fields[4])), last[2].split(",")


def _own_path(root: Path, fs_type: str, controller: str) -> PurePosixPath | None:
    """This process's group within a hierarchy."""
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if ".." in path.split("/"):  # outside of what is mounted here
            continue
        if (number == "0" and not controllers) if fs_type == "cgroup2" else controller in controllers.split(","):
            return PurePosixPath(path)
    return None


def _share(folder: Path) -> float | None:
    """CPUs that one group may use: quota over period, both in microseconds."""
    words = " ".join(_lines(folder / "cpu.max")).split()
    if not words:
        words = [" ".join(_lines(folder / f"cpu.cfs_{name}_us")) for name in ("quota", "period")]
    if len(words) != 2 or not all(word.isdecimal() for word in words) or not int(words[1]):
        return None  # "max", -1, or not there
    return int(words[0]) / int(words[1])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []


def _unescape(path: str) -> str:
    r"""Blanks and the like stand as \040 in mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), path)
