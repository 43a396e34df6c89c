"""Refusing to load what will not fit, before anything is loaded.

A model needs its weights, the cache of one session of the whole context, and working memory. The native engine reads
weights from the mapped file; the system may drop such pages and read them again, but every token reads all of them, so
they count as needed. Engines over other people's runtimes hold copies besides, of about the size measured for them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from edgeslm.bundle import Bundle
from edgeslm.capacity import Limit, limits
from edgeslm.errors import EngineError, MemoryLimitError
from edgeslm.log import logger
from edgeslm.memory import cache_bytes
from edgeslm.spec import DecoderSpec

STACK_BYTES = 8 << 20  # of a thread: address space, of which next to nothing is used
# Copies of the weights in an engine's own memory, beside the mapped file, in sizes of the target's files: as measured.
COPIES = {"native": 0.0, "reference": 0.0, "onnxruntime": 1.4, "litert": 1.0, "coreml": 1.0}
NEAR = 2  # times what is needed: below it, working memory is worth an exact answer
LARGEST_KV = "f32"  # type of keys and values: for an estimate on the safe side


class Need(NamedTuple):
    """Bytes that a model needs in an engine."""

    weights: int  # of mapped files
    copies: int  # of weights
    cache: int  # of one session of the whole context
    scratch: int
    stacks: int  # of threads

    def under(self, limit: Limit) -> int:
        """What of it the limit counts."""
        files = self.weights if limit.of_files else 0
        return files + self.copies + self.cache + self.scratch + (self.stacks if limit.of_addresses else 0)


def check_memory(
    bundle: Bundle, engine: str, target: str, threads: int, force: bool = False, kv_dtype: str | None = None
) -> None:
    """Refuse a bundle whose target will not fit in an engine; with ``force``, warn.

    Raises:
        MemoryLimitError: what is needed, what there is and what limits it, and what would help.
    """
    found = limits()
    need = _need(bundle, engine, target, threads, kv_dtype, min((limit.bytes for limit in found), default=0))
    short = [limit for limit in found if need.under(limit) > limit.bytes]
    if not short:
        return
    limit = min(short, key=lambda limit: limit.bytes - need.under(limit))
    needed, left = _size(need.under(limit)), _size(limit.bytes)
    message = f"{bundle.folder}: needs {needed} ({_parts(need, bundle)}), and {left} are left of the {limit.what}"
    if not force:
        is_int4 = bundle.target(target).settings.get("quantize") == "int4"
        raise MemoryLimitError(f"{message}. {_advice(need, limit, bundle.spec, is_int4, kv_dtype)}")
    logger("memory").warning("%s. Loading was forced: the system may end this process", message)


def _need(bundle: Bundle, engine: str, target: str, threads: int, kv_dtype: str | None, available: int) -> Need:
    entry = bundle.target(target)
    files = sum(bundle.manifest.files[name].bytes for name in set(entry.files.values()))
    cache, scratch = cache_bytes(bundle.spec, LARGEST_KV, bundle.spec.context_length) or 0, 0
    if engine == "native" and NEAR * (files + cache) > available:
        from edgeslm.footprint import footprint

        formats = {name: (tensor.format, tensor.group_size) for name, tensor in entry.tensors.items()}
        with suppress(EngineError):  # nothing left even to plan with: the estimate tells as much
            exact = footprint(bundle.spec, formats, threads, kv_dtype)
            files, cache, scratch = exact.weights_bytes, exact.kv_bytes, exact.scratch_bytes
    return Need(files, round(COPIES[engine] * files), cache, scratch, threads * STACK_BYTES)


def _parts(need: Need, bundle: Bundle) -> str:
    parts = {
        "weights": need.weights,
        "copies of them": need.copies,
        f"cache of {bundle.spec.context_length} tokens": need.cache,
        "working memory": need.scratch,
    }
    return ", ".join(f"{what} {_size(count)}" for what, count in parts.items() if count)


def _advice(need: Need, limit: Limit, spec: DecoderSpec, is_int4: bool, kv_dtype: str | None) -> str:
    """What would help, most promising first."""
    tokens = spec.context_length
    small, large = (cache_bytes(spec, kind, tokens) or 0 for kind in ("int8", kv_dtype or "f16"))
    room = limit.bytes - (need.under(limit) - need.cache)  # for a cache
    helps = []
    if need.copies:
        helps.append("use the native engine, which needs no copy of the weights")
    if room > need.cache / 16:
        helps.append(f"convert it with --context {max(1, tokens * room // need.cache // 256 * 256)}")
    if not need.copies and small < large and need.under(limit) - (large - small) <= 1.01 * limit.bytes:
        helps.append("keep its cache as int8 (--kv-dtype int8)")
    helps.append("take a smaller model" if is_int4 else "convert it with --quantize int4")
    return f"To load it: {', or '.join(helps)}; or free memory; --force (force=True) tries it all the same"


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
