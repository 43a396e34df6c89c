"""How fast this machine reads memory: the bound of decoding, since every token reads all weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt

from edgeslm.engines.registry import has_native_kernels
from edgeslm.errors import EngineError

_CPUS = Path("/sys/devices/system/cpu")
_PASSES = 16
_MIN_BYTES, _MAX_BYTES = 64 << 20, 512 << 20
_UNITS = {"K": 1 << 10, "M": 1 << 20}


def read_bandwidth(threads: int) -> float:
    """Bytes per second at which so many threads together read a buffer four times as large as the caches.

    The best of 16 passes, each by threads that take 1 MiB at a time; the buffer is 64 to 512 MiB.

    Raises:
        EngineError: not enough memory or threads.
    """
    size = buffer_bytes(cache_bytes())
    try:
        words = np.ones(size // 8, np.uint64)  # written, so that every page is its own
    except MemoryError:
        raise EngineError(f"not enough memory to measure how fast it is: {size} bytes") from None
    if not has_native_kernels():
        return _read_by_numpy(words, threads)
    from edgeslm import _native

    return _native.read_bandwidth(words, threads, _PASSES)[0]


def _read_by_numpy(words: npt.NDArray[np.uint64], threads: int) -> float:
    """As NumPy reads it, which is what its engine can have."""
    parts, times = np.array_split(words, threads), []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_PASSES):
            start = perf_counter()
            list(pool.map(np.max, parts))
            times.append(perf_counter() - start)
    return words.nbytes / min(times)


def buffer_bytes(caches: int) -> int:
    """So large that caches of so many bytes keep little of it, as far as memory allows."""
    return min(max(4 * caches, _MIN_BYTES), _MAX_BYTES)


def cache_bytes(cpus: Path = _CPUS) -> int:
    """Of the last-level caches together, as far as the system tells of them; else 0."""
    levels: dict[int, dict[str, int]] = {}
    for index in cpus.glob("cpu[0-9]*/cache/index*"):
        try:
            level, shared, size = ((index / name).read_text().strip() for name in ("level", "shared_cpu_list", "size"))
            levels.setdefault(int(level), {})[shared] = int(size.rstrip("KM")) * _UNITS.get(size[-1:], 1)
        except (OSError, ValueError):
            continue
    return sum(levels[max(levels)].values()) if levels else 0
