"""How much memory: of this process, and of the cache of a sequence."""

from __future__ import annotations

import sys
from pathlib import Path

from edgeslm.spec import DecoderSpec

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
    import ctypes  # takes a while

    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; Windows
        return
    trim(0)


def _peak_from_rusage() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others kilobytes
