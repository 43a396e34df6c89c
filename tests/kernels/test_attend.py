"""Cache rows and attention over them: storing against NumPy, attention against float64 and `ref`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeslm import _native

Array = npt.NDArray[Any]
BLOCK = 256
FORMATS = ("f32", "f16", "q8")
GUARD = np.float32(-12345.678)
# Of what attention gives, relative to its largest magnitude: what rounding the rows costs is not among it.
TOLERANCE = {"f32": 2e-6, "f16": 2e-6, "q8": 2e-4}


def variants(op: str) -> list[Any]:
    """(format, isa) of the kernels that compute an op; skipped where this CPU cannot run them."""
    return [
        pytest.param(form, isa, marks=() if runnable else pytest.mark.skip(f"this CPU lacks {isa}"))
        for name, form, isa, runnable in _native.kernel_rows()
        if name == op
    ]


def stored(form: str, rows: Array) -> Array:
    """The values that rows of a cache stand for."""
    if form == "f32":
        return rows
    if form == "f16":
        return rows.clip(-65504, 65504).astype(np.float16).astype(np.float32)
    scale = np.abs(rows).max(axis=1, keepdims=True) / np.float32(127)
    inverse = np.float32(1) / np.where(scale > 0, scale, np.float32(np.inf))
    return np.asarray(np.rint(rows * inverse) * scale, np.float32)


def asked(form: str, q: Array) -> Array:
    """The queries that a kernel scores with: beside rows of bytes, bytes as well."""
    return stored(form, q) if form == "q8" else q


def attention(q: Array, keys: Array, values: Array, softcap: float = 0.0) -> Array:
    """In float64."""
    scores = q.astype(np.float64) @ keys.astype(np.float64).T
    if softcap:
        scores = softcap * np.tanh(scores / softcap)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True) @ values)


def padded(x: Array) -> Array:
    return np.pad(x, ((0, 0), (0, -x.shape[1] % 16)))


def run(form: str, isa: str, q: Array, block: Array, seen: Array, softcap: float = 0.0) -> tuple[Array, Array, Array]:
    """max, sum and acc (n_q, d) of an attend kernel, which writes nothing else; resumed, it gives the same again."""
    n_q, d = q.shape
    wide = padded(q)
    top, total = np.full((2, n_q + 1), GUARD, np.float32)
    acc = np.full((n_q + 1, wide.shape[1]), GUARD, np.float32)
    _native.attend(form, isa, wide, d, block, seen.astype(np.int32), softcap, top, total, acc)
    first = top.copy(), total.copy(), acc[:, :d].copy()
    _native.attend(form, isa, wide, d, block, seen.astype(np.int32), softcap, top, total, acc, times=2)
    for once, again in zip(first, (top, total, acc[:, :d]), strict=True):
        assert np.array_equal(once, again, equal_nan=True)
    assert top[-1] == total[-1] == GUARD and (acc[-1] == GUARD).all(), "wrote outside"
    return top[:-1], total[:-1], acc[:-1, :d]


def case(n_q: int, d: int, count: int, peak: float | None = None) -> tuple[Array, Array, Array]:
    """Queries, keys and values."""
    rng = np.random.default_rng(n_q * 1000 + d * 10 + count)
    q = rng.standard_normal((n_q, d)) * (1 / math.sqrt(d) if peak is None else peak)
    keys, values = rng.standard_normal((2, count, d))
    return q.astype(np.float32), keys.astype(np.float32), values.astype(np.float32)


def all_of(n_q: int, first: int, stop: int) -> Array:
    return np.tile([first, stop], (n_q, 1))


def close(found: Array, expected: Array, tolerance: float) -> None:
    assert np.isfinite(found).all()
    assert np.abs(found - expected).max() <= tolerance * max(np.abs(expected).max(), 1e-30)


def test_ref_comes_first() -> None:
    for op in ("kv_store", "attend"):
        rows = [(form, isa) for name, form, isa, _ in _native.kernel_rows() if name == op]
        assert rows[: len(FORMATS)] == [(form, "ref") for form in FORMATS]


@pytest.mark.parametrize(("form", "isa"), variants("kv_store"))
@pytest.mark.parametrize("d", [1, 7, 20, 64, 132])
def test_rows_are_stored_as_numpy_rounds_them(form: str, isa: str, d: int) -> None:
    """Seen through attention with one row at a time, whose weight is 1, and a key's values one by one."""
    _, keys, values = case(1, d, 20)
    keys[3], values[4], values[5, 0] = 0, values[4] * 1e5, -3e38 if form == "f16" else 5
    values[6] *= 1e-6
    block = _native.kv_store(form, isa, keys, values, 9)
    assert np.array_equal(block, _native.kv_store(form, "ref", keys, values, 9))
    exact = {"f32": 0.0, "f16": 0.0, "q8": 1e-4}[form]
    for j in range(20):
        _, total, acc = run(form, "ref", np.ones((1, d), np.float32), block, all_of(1, 9 + j, 10 + j))
        assert total[0] == 1
        close(acc[0], stored(form, values)[j], exact)
    scores = [run(form, "ref", e[None], block, all_of(1, 10, 11))[0][0] for e in np.eye(d, dtype=np.float32)]
    close(np.array(scores), stored(form, keys)[1], exact)


@pytest.mark.parametrize(("form", "isa"), [p for p in variants("kv_store") if p.values[0] == "f16"])
def test_halves_round_to_nearest_even_and_nan_stays(form: str, isa: str) -> None:
    random = np.random.default_rng(0).integers(0, 1 << 32, 1 << 16, np.uint64).astype(np.uint32)
    ties = (np.arange(1 << 15, dtype=np.uint32) << 13) + np.uint32(0x38000000 - (16 << 23)) | np.uint32(0x1000)
    rows = np.concatenate([random, ties]).view(np.float32).reshape(BLOCK, -1)
    block = _native.kv_store(form, isa, rows, rows, 0).view(np.float16)
    keys, d = block[: block.size // 2].reshape(BLOCK // 16, -1, 16), rows.shape[1]
    with np.errstate(all="ignore"):
        expected = np.clip(rows, -65504, 65504).astype(np.float16)
    assert np.array_equal(keys[:, :d].swapaxes(1, 2).reshape(BLOCK, d), expected, equal_nan=True)


SEEN = ((0, 1), (15, 2), (16, 32), (5, 33), (0, 256), (255, 1))  # first row, and how many


@pytest.mark.parametrize(("form", "isa"), variants("attend"))
@pytest.mark.parametrize(("d", "softcap"), [(1, 0.0), (20, 3.0), (64, 0.0), (132, 0.0)])
def test_attention(form: str, isa: str, d: int, softcap: float) -> None:
    """What lies around the rows is NaN, and must not count."""
    for n_q in (1, 2, 7):
        for first, count in SEEN[:: 3 if n_q == 2 else 1]:
            q, keys, values = case(n_q, d, count)
            block = _native.kv_store(form, "ref", keys, values, first)
            found = run(form, isa, q, block, all_of(n_q, first, first + count), softcap)
            expected = attention(asked(form, q), stored(form, keys), stored(form, values), softcap)
            peak = np.abs(values).max()
            assert np.abs(found[2] / found[1][:, None] - expected).max() <= TOLERANCE[form] * peak
            if isa != "ref":
                same = run(form, "ref", q, block, all_of(n_q, first, first + count), softcap)
                for x, y, scale in zip(found, same, (1, count, count * peak), strict=True):
                    assert np.abs(x - y).max() <= TOLERANCE[form] * scale


@pytest.mark.parametrize(("form", "isa"), variants("attend"))
@pytest.mark.parametrize("peak", [0.0, 30.0, 1000.0])
def test_flat_and_extreme_scores(form: str, isa: str, peak: float) -> None:
    """All scores equal; one far above all others; differences beyond exp's range."""
    q, keys, values = case(3, 24, 90, 0.0)
    keys[:, 0] = np.linspace(-1, 1, 90)
    q[:, 0] = peak
    block = _native.kv_store(form, "ref", keys, values, 0)
    _, total, acc = run(form, isa, q, block, all_of(3, 0, 90))
    expected = attention(asked(form, q), stored(form, keys), stored(form, values))
    close(acc / total[:, None], expected, 1e-5 if form != "q8" else max(2e-4, 2e-5 * peak))


@pytest.mark.parametrize(("form", "isa"), variants("attend"))
def test_a_head_does_not_depend_on_its_company(form: str, isa: str) -> None:
    """The contract on which exact chunking rests: any set of heads that see anything else, the same bits."""
    q, keys, values = case(11, 20, 150, 0.5)
    block = _native.kv_store(form, "ref", keys, values, 60)
    seen = np.array([[60 + 7 * h, 110 + 9 * h] for h in range(11)])
    seen[4] = 0, 0
    whole = run(form, isa, q, block, seen)
    assert whole[0][4] == -np.inf and whole[1][4] == 0 and not whole[2][4].any()
    for heads in ([0], [1, 2], [8, 3, 10], list(range(10, -1, -1)), [4], [4, 5]):
        alone = run(form, isa, q[heads], block, seen[heads])
        for found, expected in zip(alone, whole, strict=True):
            assert np.array_equal(found, expected[heads])


@pytest.mark.parametrize(("form", "isa"), variants("attend"))
def test_nan_is_not_lost(form: str, isa: str) -> None:
    q, keys, values = case(2, 20, 40)
    keys[7, 3] = np.nan
    block = _native.kv_store(form, "ref", keys, values, 0)
    _, total, _ = run(form, isa, q, block, np.array([[0, 40], [0, 7]]))
    assert np.isnan(total[0]) and np.isfinite(total[1])


@pytest.mark.parametrize("isa", [isa for form, isa in (p.values for p in variants("attend")) if form == "q8"])
def test_sums_of_bytes_do_not_overflow(isa: str) -> None:
    """All values at their largest, of one sign: the longest sums there are."""
    if not any(row[2] == isa and row[3] for row in _native.kernel_rows()):
        pytest.skip(f"this CPU lacks {isa}")
    for d in (256, 1024):
        ones = np.ones((BLOCK, d), np.float32)
        block = _native.kv_store("q8", "ref", ones, -ones, 0)
        top, total, acc = run("q8", isa, np.full((1, d), 3.0, np.float32), block, all_of(1, 0, BLOCK))
        close(top, np.array([3.0 * d]), 1e-3)
        close(acc / total[:, None], -np.ones((1, d)), 1e-3)


@pytest.mark.parametrize(("form", "isa"), variants("merge"))
@pytest.mark.parametrize("width", [16, 64, 144])
def test_softmaxes_merge(form: str, isa: str, width: int) -> None:
    """That of all rows comes of those of some, of which one may have seen nothing, or nothing finite."""
    assert form == "any"
    rng = np.random.default_rng(width)
    for n_q in (1, 4, 7, 9, 16):
        tops = (rng.standard_normal((2, n_q)) * 20).astype(np.float32)
        sums = rng.uniform(1, 256, (2, n_q)).astype(np.float32)
        accs = rng.standard_normal((2, n_q, width)).astype(np.float32)
        tops[1, 0] = tops[0, 0]
        for h, side in ((1, 0), (2, 1)):
            if h < n_q:
                tops[side, h], sums[side, h], accs[side, h] = -np.inf, 0, 0
        top = tops.max(axis=0)
        shares = np.exp(tops.astype(np.float64) - top)
        found = tops[0].copy(), sums[0].copy(), accs[0].copy()
        _native.merge(isa, *found, tops[1], sums[1], accs[1])
        assert np.array_equal(found[0], top)
        close(found[1], (shares * sums).sum(axis=0), 1e-6)
        close(found[2], (shares[..., None] * accs).sum(axis=0), 1e-6)
        _native.merge(isa, *found, np.full(n_q, np.nan, np.float32), sums[1], accs[1])
        assert np.isnan(found[2][sums[1] > 0]).all() and np.isfinite(found[2][sums[1] == 0]).all()
