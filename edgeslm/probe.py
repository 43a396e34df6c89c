"""The rates of this machine, measured with decoders made for it: of linears alone, of attention, of next to nothing.

They run in the native engine, with its threads, on weights in the format and of the widths asked about: these decide
which kernels run, and how well.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from time import perf_counter

import numpy as np

from edgeslm import _native
from edgeslm.bandwidth import read_bandwidth
from edgeslm.capacity import available_bytes
from edgeslm.devices import Device, Rates
from edgeslm.engines.native import NativeEngine
from edgeslm.engines.threads import resolve_threads
from edgeslm.footprint import Formats, filled_tensors, weight_bytes
from edgeslm.spec import Attention, Block, DecoderSpec, Mlp, tensor_shapes

READ_BYTES = 192 << 20  # at most: beyond the caches, and quickly filled
MAX_COUNT = 256  # layers at most
MACS = 20e9  # of one run of many tokens, so that its weights too are more than caches hold
ROWS, LONG = 256, 1024  # tokens of such a run; where attention is to dominate
REPEAT, SECONDS = 5, 0.2  # runs at least, and until so much time is spent
Form = tuple[str, int]  # format and group size
FLOAT: Form = ("f32", 0)
TINY = Attention(n_heads=1, n_kv_heads=1, head_dim=32, scale=1.0, window=1)  # next to nothing


def measure_device(
    spec: DecoderSpec, variants: Iterable[Formats], threads: int | None, kv_dtype: str | None = None
) -> Device:
    """This machine, for a decoder of this shape in each of these formats; about three seconds a format."""
    count = resolve_threads(threads)
    forms = {formats[n] for formats in variants for n in _matrices(spec)}
    memory = available_bytes()
    return Device(
        name=f"this machine ({_native.isa()}, {count} threads)",
        memory_bytes=0 if memory is None else memory,
        threads=count,
        rates=measure_rates(spec, sorted(forms), count, kv_dtype),
        sources={"rates": "measured here, now", "memory_bytes": "what /proc and the control groups leave now"},
    )


def measure_rates(spec: DecoderSpec, forms: Iterable[Form], threads: int, kv_dtype: str | None = None) -> Rates:
    """Rates for a decoder of this shape whose matrices have one of ``forms``, and whose cache is of ``kv_dtype``."""
    sizes = {form: min(READ_BYTES, _matrix_bytes(spec, form)) for form in forms}
    layer_s = _seconds(_linears(32, 32, len(spec.layout)), FLOAT, threads, 1) / len(spec.layout)
    read = read_bandwidth(threads)
    return Rates(
        read_bytes_per_s=read,
        efficiency={form[0]: _one_token_rate(spec, form, n, layer_s, threads) / read for form, n in sizes.items()},
        macs_per_s={form[0]: _many_tokens_rate(spec, form, threads) for form in sizes},
        attention_macs_per_s=_attention_rate(spec, threads, kv_dtype),
        token_attention_macs_per_s=_token_attention_rate(spec, threads, kv_dtype),
        layer_s=layer_s,
    )


def _one_token_rate(spec: DecoderSpec, form: Form, size: int, layer_s: float, threads: int) -> float:
    """Bytes of weights per second that linears of one token read."""
    hidden, inner = spec.hidden, spec.layers[0].mlp.inner
    one = _linears(hidden, inner, 1)
    layer = sum(weight_bytes(one, _all(one, form)).values())
    count = min(max(1, size // layer), MAX_COUNT)
    return count * layer / _less(_seconds(_linears(hidden, inner, count), form, threads, 1), count * layer_s)


def _many_tokens_rate(spec: DecoderSpec, form: Form, threads: int) -> float:
    """Multiply-adds per second of linears of many tokens."""
    hidden, inner = spec.hidden, spec.layers[0].mlp.inner
    layer = (3 * inner + 4 * TINY.head_dim) * hidden * ROWS
    count = min(max(1, round(MACS / layer)), MAX_COUNT)
    return count * layer / _seconds(_linears(hidden, inner, count + 1), form, threads, ROWS)  # the last is left out


def _attention_probe(spec: DecoderSpec) -> DecoderSpec:
    """Two layers of which attention is nearly all, with the heads of ``spec``."""
    a = spec.layers[0].mixer
    mixer = Attention(a.n_heads, a.n_kv_heads, a.head_dim, scale=1.0, softcap=a.softcap)
    return _decoder(32, Block(mixer, Mlp(32)), 2)


def _attention_rate(spec: DecoderSpec, threads: int, kv_dtype: str | None) -> float:
    """Multiply-adds of scores and values per second: what one long run takes more than short ones of as many tokens."""
    probe, times = _attention_probe(spec), LONG // ROWS
    more = LONG * (LONG - ROWS) / 2 * _row_macs(probe)
    long, short = (_seconds(probe, FLOAT, threads, tokens, kv_dtype=kv_dtype) for tokens in (LONG, ROWS))
    return more / _less(long, times * short)


def _token_attention_rate(spec: DecoderSpec, threads: int, kv_dtype: str | None) -> float:
    """The same of one token: what it takes more behind many than behind none."""
    probe = _attention_probe(spec)
    deep, first = (_seconds(probe, FLOAT, threads, 1, depth, kv_dtype) for depth in (LONG, 0))
    return LONG * _row_macs(probe) / _less(deep, first)


def _row_macs(spec: DecoderSpec) -> int:
    """Multiply-adds of a token with a cached one, in all layers."""
    return sum(2 * block.mixer.n_heads * block.mixer.head_dim for block in spec.layers)


def _less(seconds: float, part: float) -> float:
    """``seconds`` without a part of them; a disturbed measurement leaves a tenth."""
    return max(seconds - part, seconds / 10)


def _linears(hidden: int, inner: int, layers: int) -> DecoderSpec:
    return _decoder(hidden, Block(TINY, Mlp(inner)), layers)


def _decoder(hidden: int, block: Block, layers: int) -> DecoderSpec:
    return DecoderSpec(32, hidden, 1e-6, 2 * LONG, (block,), (0,) * layers, (), tied=True)


def _matrix_bytes(spec: DecoderSpec, form: Form) -> int:
    """Of all matrices in one format, as an engine reads them for a token."""
    sizes = weight_bytes(spec, _all(spec, form))
    return sum(sizes[name] for name in _matrices(spec))


def _matrices(spec: DecoderSpec) -> list[str]:
    """Those that every token reads whole."""
    return [n for n, shape in tensor_shapes(spec).items() if len(shape) == 2 and (n != "embed" or spec.tied)]


def _all(spec: DecoderSpec, form: Form) -> Formats:
    return {name: form if len(shape) == 2 else FLOAT for name, shape in tensor_shapes(spec).items()}


def _seconds(
    spec: DecoderSpec, form: Form, threads: int, tokens: int, depth: int = 0, kv_dtype: str | None = None
) -> float:
    """Of a pass of ``tokens`` tokens, behind ``depth``, through a decoder whose matrices have one format."""
    ids = np.zeros(depth + tokens, np.int64)
    engine = NativeEngine.from_tensors(spec, *filled_tensors(spec, _all(spec, form)), threads, kv_dtype=kv_dtype)
    try:
        session = engine.new_session()
        if depth:
            session.forward(ids[:depth])

        def run() -> None:
            session.truncate(depth)
            session.forward(ids[depth:])

        return _median(run)
    finally:
        engine.close()


def _median(run: Callable[[], object]) -> float:
    """Seconds of a run; one more goes first."""
    run()
    times: list[float] = []
    while len(times) < REPEAT or sum(times) < SECONDS:
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return statistics.median(times)
