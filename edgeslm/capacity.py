"""How much memory this process can still get: of the machine, its control groups, and its resource limits.

Pages of files are counted as memory too, although the system may drop them: a decoder reads all its weights for every
token, and where they do not stay it reads them from the disk each time.

Sources: proc(5), getrlimit(2), the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOUNTS = {"": ("", "unified"), "memory": ("memory",)}  # below /sys/fs/cgroup, by controller; "": version 2


@dataclass(frozen=True)
class Limit:
    """Bytes that can still be had, and what limits them."""

    bytes: int
    what: str
    of_addresses: bool = False  # counts what is mapped, whether used or not
    of_files: bool = True  # counts mapped files too


def limits(root: Path = Path("/")) -> list[Limit]:
    """Every limit that is set here; the /proc and /sys below ``root`` tell."""
    return [*_machine(root), *_control_groups(root), *_resources(root)]


def available_bytes(root: Path = Path("/")) -> int | None:
    """What the tightest of them leaves; None where the system does not tell."""
    return min((limit.bytes for limit in limits(root)), default=None)


def control_groups(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Folders of this process's control group and the groups above it; ``controller`` "" is version 2.

    In a container the path that /proc tells may begin outside of what is mounted; then only the mounted root is there.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller not in controllers.split(","):
            continue
        for mount in MOUNTS.get(controller, (controller,)):
            base = root / "sys/fs/cgroup" / mount
            group = base / path.lstrip("/")
            yield from (g for g in (group, *group.parents) if g.is_relative_to(base) and g.is_dir())


def _machine(root: Path) -> Iterator[Limit]:
    found = _table(root / "proc/meminfo")
    if "MemAvailable" in found:
        yield Limit(found["MemAvailable"] + found.get("SwapFree", 0), "memory of this machine")
    elif root == Path("/") and hasattr(os, "sysconf"):
        yield Limit(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "memory of this machine")


def _control_groups(root: Path) -> Iterator[Limit]:
    for group in control_groups("", root):
        swap = _number(group / "memory.swap.max", 0) - _number(group / "memory.swap.current", 0)
        yield from _group_limit(group, "memory.max", "memory.current", ("inactive_file", "active_file"), max(swap, 0))
    for group in control_groups("memory", root):
        cached = ("total_inactive_file", "total_active_file")
        yield from _group_limit(group, "memory.limit_in_bytes", "memory.usage_in_bytes", cached)


def _group_limit(group: Path, limit: str, usage: str, cached: tuple[str, ...], swap: int = 0) -> Iterator[Limit]:
    most = _number(group / limit, 0)
    if 0 < most < 1 << 62:  # version 1 has a number near 2^63 for none
        statistics = _table(group / "memory.stat")
        used = _number(group / usage, 0) - sum(statistics.get(key, 0) for key in cached)
        yield Limit(max(most - used, 0) + swap, f"memory of control group {group.name or '/'} ({limit})")


def _resources(root: Path) -> Iterator[Limit]:
    try:
        import resource
    except ImportError:  # Windows
        return
    used = _table(root / "proc/self/status")
    for kind, key, what in (
        (resource.RLIMIT_AS, "VmSize", "address space (ulimit -v)"),
        (resource.RLIMIT_DATA, "VmData", "data (ulimit -d)"),
    ):
        most = resource.getrlimit(kind)[0]
        if most != resource.RLIM_INFINITY:
            addresses = kind == resource.RLIMIT_AS
            yield Limit(max(most - used.get(key, 0), 0), what, of_addresses=addresses, of_files=addresses)


def _table(path: Path) -> dict[str, int]:
    """Name → bytes, of lines such as "MemFree:  12 kB" and "active_file 12288"."""
    found: dict[str, int] = {}
    for line in _text(path).splitlines():
        words = line.replace(":", " ").split()
        if len(words) >= 2 and words[1].isdigit():
            found[words[0]] = int(words[1]) * (1024 if words[2:] == ["kB"] else 1)
    return found


def _number(path: Path, default: int) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else default


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
