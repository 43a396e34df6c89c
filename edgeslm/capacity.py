"""How much memory this process can still get: of the machine, its control groups, and its resource limits.

Pages of files are counted as memory too, although the system may drop them: a decoder reads all its weights for every
token, and where they do not stay it reads them from the disk each time.

Sources: proc(5), getrlimit(2), the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from edgeslm.engines.cgroups import groups

NO_LIMIT = 1 << 62  # version 1 says so with a number near 2^63


class Limit(NamedTuple):
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


def _machine(root: Path) -> Iterator[Limit]:
    found = _table(root / "proc/meminfo")
    if "MemAvailable" in found:
        yield Limit(found["MemAvailable"] + found.get("SwapFree", 0), "memory of this machine")
    elif root == Path("/") and hasattr(os, "sysconf"):
        yield Limit(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "memory of this machine")


def _control_groups(root: Path) -> Iterator[Limit]:
    for group in dict.fromkeys(groups(root, "memory")):
        yield from _group_limit(group, "memory.max", "memory.current", "", lambda group: _swap(root, group))
        yield from _group_limit(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_", lambda group: 0)


def _swap(root: Path, group: Path) -> int:
    swap = _number(group / "memory.swap.max") - _number(group / "memory.swap.current")
    return min(max(swap, 0), _table(root / "proc/meminfo").get("SwapFree", 0))


def _group_limit(group: Path, limit: str, usage: str, prefix: str, swap: Callable[[Path], int]) -> Iterator[Limit]:
    """One group's limit, in the files of version 2 or 1; pages of files are not used memory, as they can be dropped."""
    most = _number(group / limit)
    if 0 < most < NO_LIMIT:
        statistics = _table(group / "memory.stat")
        cached = sum(statistics.get(f"{prefix}{kind}_file", 0) for kind in ("inactive", "active"))
        left = max(most - _number(group / usage) + cached, 0)
        yield Limit(left + swap(group), f"memory of control group {group.name or '/'} ({limit})")


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


def _number(path: Path) -> int:
    """The number in a file; 0 where there is none, or "max"."""
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
