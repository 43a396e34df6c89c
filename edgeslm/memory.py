"""How much memory: of this process, and of the cache of a sequence."""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeslm.spec import DecoderSpec

_MADV_POPULATE_READ = 22  # of Linux 5.14
_VALUE_BYTES = {"f32": 4, "f16": 2, "int8": 1}
_SCALE_BYTES = {"int8": 4}  # of a row of a head


def cache_bytes(spec: DecoderSpec, kv_type: str, tokens: int) -> int | None:
    """What keys and values of ``tokens`` tokens take, by their number: windows keep no more than they see.

    An engine may hold more: rows for what comes next, and room to rewind. None for a kind of cache unknown here.
    """
    value_bytes = _VALUE_BYTES.get(kv_type)
    if value_bytes is None:
        return None
    attentions = [block.mixer for block in spec.layers]
    heads = [2 * a.n_kv_heads * (value_bytes * a.head_dim + _SCALE_BYTES.get(kv_type, 0)) for a in attentions]
    rows = [min(tokens, a.window) if a.window else tokens for a in attentions]
    return sum(n * head for n, head in zip(rows, heads, strict=True))


def process_memory() -> tuple[int | None, int | None]:
    """Peak resident and current anonymous bytes of this process, None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return _peak_from_rusage(), None
    kilobytes = {k: int(v.split()[0]) for k, v in (line.split(":", 1) for line in lines) if v.endswith("kB")}
    peak, anonymous = kilobytes.get("VmHWM"), kilobytes.get("RssAnon")
    return (
        _peak_from_rusage() if peak is None else peak * 1024,
        None if anonymous is None else anonymous * 1024,
    )


def return_free_memory() -> None:
    """Give back to the system what this process has freed, as far as its allocator can be asked to (glibc).

    By itself it keeps what lies below something still in use: reading a large tokenizer leaves twice its size.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; Windows
        return
    trim(0)


def map_pages_soon(areas: Iterable[npt.NDArray[np.uint8]]) -> None:
    """Have the pages of mapped files read and mapped in the background, so that the first use need not wait for each.

    Where the system has no such call, nothing happens.
    """
    if sys.platform == "linux":
        threading.Thread(target=_map_pages, args=(list(areas),), name="edgeslm-pages", daemon=True).start()


def _map_pages(areas: list[npt.NDArray[np.uint8]]) -> None:
    advise = ctypes.CDLL(None).madvise  # called without the interpreter's lock
    advise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for area in areas:
        start = area.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
        advise(start, area.ctypes.data + area.nbytes - start, _MADV_POPULATE_READ)


def _peak_from_rusage() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others kilobytes
