"""Speed of every kernel of the manifest that this CPU runs, on one thread.

    python tests/bench/kernels.py [--op linear] [--format q4] [--isa avx2] [--shape 8192x2048] [--rows 1 2 4 8 16]

With few rows, weights are rotated through more copies than most caches hold, so GB/s is memory's; "x" is the cost in
units of the first number of rows. Times are CPU time of the thread, the best of several, in which numbers of rows take
turns. embed is called row by row: mostly the cost of a call. attend: query heads of width 64 over a block of 256 cached
rows, in cache; kv_store: keys and values written to one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeslm import _native
from edgeslm.formats import FORMATS, halve_scales, scale_exponent

F32Array = npt.NDArray[np.float32]
U8Array = npt.NDArray[np.uint8]
U16Array = npt.NDArray[np.uint16]

ROWS = (1, 2, 4, 8, 16, 64, 256)
FEW = 16  # rows of a step: each meets weights that come from memory
REPEATS = 7
CACHED, HEAD_DIM = 256, 64  # of a block of a cache
LOGITS = 1 << 20  # so many that the call itself takes no part
HEADS = (1, 4, 7, 16, 64)  # that attend to it at once
ROTATE_BYTES = 256 << 20


def best_time(run: Callable[[], int]) -> float:
    """Seconds per unit of work; run() does some and says how many."""
    return best_times([run])[0]


def best_times(runs: list[Callable[[], int]]) -> list[float]:
    """The same for several, which take turns."""
    return [min(times) for times in zip(*([timed(run) for run in runs] for _ in range(REPEATS)), strict=True)]


def timed(run: Callable[[], int]) -> float:
    start = time.thread_time()
    units = run()
    return (time.thread_time() - start) / units


def aligned(values: npt.NDArray[Any]) -> U8Array:
    raw = np.empty(values.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    out = raw[start : start + values.nbytes]
    out[:] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return out


def stored(format: str, group: int, rows: F32Array) -> tuple[U8Array, U16Array | None, float]:
    """Data, bits of halved scales, and what these are times, as kernels take them."""
    parts = FORMATS[format].encode(rows, group)
    if not group:
        return aligned(parts["data"]), None, 1.0
    exponent = scale_exponent(float(np.abs(parts["scales"]).max()))
    halves, _ = halve_scales(parts["scales"], exponent)
    return aligned(parts["data"]), aligned(halves).view(np.uint16), 2.0**exponent


def bench_linear(format: str, isa: str, group: int, n: int, k: int, rows: tuple[int, ...]) -> None:
    weights = np.random.default_rng(0).standard_normal((n, k)).astype(np.float32)
    data, scales, scale = stored(format, group, weights)
    size = data.nbytes + (scales.nbytes if scales is not None else 0)
    copies = [data] + [aligned(data) for _ in range(ROTATE_BYTES // data.nbytes)]

    def make_run(m: int) -> Callable[[], int]:
        x = _native.pack(format, isa, np.ones((m, k), np.float32), group)
        x = aligned(x).reshape(x.shape)
        y = np.empty((m, n), np.float32)
        used = copies if m <= FEW else copies[:1]

        def run() -> int:
            for copy in used:
                _native.linear(format, isa, copy, scales, scale, n, k, group, x, y, 0, n)
            return len(used)

        return run

    times = best_times([make_run(m) for m in rows])
    for m, seconds in zip(rows, times, strict=True):
        rate, cost = m * n * k / seconds / 1e9, seconds / times[0]
        line = f"linear {format:3} {group:3} {isa:6} n={n} k={k} m={m:<3} {rate:7.1f} GMAC/s  x {cost:6.2f}"
        print(line + (f" {size / seconds / 1e9:6.1f} GB/s" if m <= FEW else ""), flush=True)


def bench_read(isa: str) -> None:
    words = np.ones(ROTATE_BYTES // 8, np.uint64)
    seconds = best_time(lambda: len([_native.read(isa, words)]))
    print(f"read {isa:6} {words.nbytes / seconds / 1e9:6.1f} GB/s", flush=True)


def bench_simple(op: str, format: str, isa: str, group: int, n: int, k: int) -> None:
    """Ops whose work is counted in float32 values."""
    values = np.random.default_rng(0).standard_normal((min(n, 1024), k)).astype(np.float32)
    if op == "pack":
        seconds = best_time(lambda: _native.pack(format, isa, values, group).size // values.size or 1)
    elif op == "quantize":
        seconds = best_time(lambda: len([_native.quantize(format, isa, values, group)]))
    else:
        weight = stored(format, group, values)
        out = np.empty(k, np.float32)

        def run() -> int:
            for row in range(len(values)):
                _native.embed(format, isa, *weight, *values.shape, group, row, 1.0, out)
            return 1

        seconds = best_time(run)
    rate = values.size / seconds / 1e6
    print(f"{op} {format:3} {group:3} {isa:6} {values.shape[0]}x{k} {rate:9.0f} M values/s", flush=True)


def bench_kv_store(format: str, isa: str) -> None:
    rows = np.random.default_rng(0).standard_normal((2, CACHED, HEAD_DIM)).astype(np.float32)
    seconds = best_time(lambda: len([_native.kv_store(format, isa, *rows, 0)]))
    print(f"kv_store {format:3} {isa:7} {rows.size / seconds / 1e6:9.0f} M values/s", flush=True)


def bench_exp_sum(isa: str) -> None:
    logits = np.random.default_rng(0).standard_normal(LOGITS).astype(np.float32)
    seconds = best_time(lambda: len([_native.exp_sum(isa, logits, 5.0)]))
    print(f"exp_sum {isa:11} {LOGITS / seconds / 1e6:9.0f} M values/s", flush=True)


def bench_attend(format: str, isa: str, heads: int) -> None:
    rows = np.random.default_rng(0).standard_normal((2, CACHED, HEAD_DIM)).astype(np.float32)
    block = _native.kv_store(format, "ref", *rows, 0)
    q = np.full((heads, HEAD_DIM), 0.1, np.float32)
    seen = np.tile(np.array([0, CACHED], np.int32), (heads, 1))
    top, total, acc = np.empty(heads, np.float32), np.empty(heads, np.float32), np.empty_like(q)
    times = 8 if isa == "ref" else 4096 // heads

    def run() -> int:
        _native.attend(format, isa, q, HEAD_DIM, block, seen, 0.0, top, total, acc, times)
        return times

    rate = 2 * heads * CACHED * HEAD_DIM / best_time(run) / 1e9
    print(f"attend {format:3} {isa:7} heads={heads:<3} {rate:7.1f} GMAC/s", flush=True)


def bench_merge(isa: str) -> None:
    heads, times = 7, 4096
    total, part = [
        (np.zeros(heads, np.float32), np.ones(heads, np.float32), np.ones((heads, HEAD_DIM), np.float32)) for _ in "ab"
    ]

    def run() -> int:
        _native.merge(isa, *total, *part, times)
        return times

    print(f"merge {isa:13} {heads * HEAD_DIM / best_time(run) / 1e6:9.0f} M values/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("op", "format", "isa"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--shape", default="8192x2048", help="n x k")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="of linear's input")
    args = parser.parse_args()
    n, k = map(int, args.shape.split("x"))
    for op, format, isa, runnable in _native.kernel_rows():
        wanted = {"op": op, "format": format, "isa": isa}
        if not runnable or any(getattr(args, key) not in (None, value) for key, value in wanted.items()):
            continue
        if op == "read":
            bench_read(isa)
        if op == "kv_store":
            bench_kv_store(format, isa)
        if op == "exp_sum":
            bench_exp_sum(isa)
        if op == "merge":
            bench_merge(isa)
        for heads in HEADS if op == "attend" else ():
            bench_attend(format, isa, heads)
        if op in ("linear", "pack", "embed", "quantize"):
            for group in (32, 128) if FORMATS[format].grouped else (0,):
                if op == "linear":
                    bench_linear(format, isa, group, n, k, tuple(args.rows))
                else:
                    bench_simple(op, format, isa, group, n, k)


if __name__ == "__main__":
    main()
