"""Norm, activation, rotation and sum kernels: ref against NumPy in float64, every variant against ref."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeslm import _native

Array = npt.NDArray[Any]
GUARD = 16
SENTINEL = np.float32(-12345.678)
OPS = ("norm", "act_mul", "rope", "exp_sum")
SIZES = (1, 7, 8, 9, 31, 33, 64, 172, 1001)


def variants(op: str) -> list[Any]:
    """The instruction sets that have this op, skipped where this CPU cannot run them."""
    return [
        pytest.param(isa, marks=() if runnable else pytest.mark.skip(f"this CPU lacks {isa}"))
        for name, _, isa, runnable in _native.kernel_rows()
        if name == op
    ]


def guarded(x: Array) -> tuple[Array, Array]:
    """A contiguous float32 copy of x between guard values: (all, the copy as a view)."""
    whole = np.full(x.size + 2 * GUARD, SENTINEL, np.float32)
    inside = whole[GUARD : GUARD + x.size].reshape(x.shape)
    inside[...] = x
    return whole, inside


def assert_guards(whole: Array) -> None:
    assert (whole[:GUARD] == SENTINEL).all() and (whole[-GUARD:] == SENTINEL).all(), "wrote outside"


def assert_close(found: Array, expected: Array, tolerance: float) -> None:
    """Within tolerance of the largest magnitude; infinities and zeros of `expected` included."""
    scale = max(float(np.abs(expected).max()), 1e-30)
    assert np.isfinite(found).all()
    assert float(np.abs(found - expected).max()) <= tolerance * scale


def test_every_op_has_ref_first() -> None:
    rows = [(op, isa) for op, _, isa, _ in _native.kernel_rows()]
    for op in OPS:
        assert next(isa for name, isa in rows if name == op) == "ref"


def inputs(n: int) -> dict[str, Array]:
    rng = np.random.default_rng(n)
    x = rng.standard_normal(n).astype(np.float32)
    return {
        "random": x,
        "zeros": np.zeros(n, np.float32),
        "large": x * np.float32(1e15),
        "denormal": x * np.float32(1e-39),
        "one_peak": np.where(np.arange(n) == n // 2, np.float32(3e4), np.float32(1e-3)),
    }


@pytest.mark.parametrize("isa", variants("norm"))
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("accumulate", [False, True])
def test_norm(isa: str, n: int, accumulate: bool) -> None:
    weight = np.random.default_rng(3).standard_normal(n).astype(np.float32)
    before = np.arange(n, dtype=np.float32) / n
    for name, x in inputs(n).items():
        wide = x.astype(np.float64)
        expected = wide / np.sqrt((wide * wide).mean() + 1e-5) * weight + (before if accumulate else 0)
        whole, out = guarded(before)
        _native.norm(isa, x, weight, 1e-5, out, accumulate)
        assert_guards(whole)
        assert_close(out, expected, 1e-6), name


@pytest.mark.parametrize("isa", variants("norm"))
def test_norm_in_place(isa: str) -> None:
    x, weight = inputs(100)["random"], np.ones(100, np.float32)
    apart, within = np.empty_like(x), x.copy()
    _native.norm(isa, x, weight, 1e-5, apart)
    _native.norm(isa, within, weight, 1e-5, within)
    assert np.array_equal(apart, within)


def activation(x: Array, act: str) -> Array:
    """In float64."""
    if act == "silu":
        with np.errstate(over="ignore"):
            return x / (1 + np.exp(-x))
    if act == "gelu":
        return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("isa", variants("act_mul"))
@pytest.mark.parametrize("act", ["silu", "gelu", "gelu_tanh"])
def test_activation_over_the_whole_range(isa: str, act: str) -> None:
    """Absolute error within 1e-6 of max(1, |value|): around 0, in the tails, and where exp would overflow."""
    x = np.concatenate([np.linspace(-20, 20, 40001), [-1e30, -200, -88.5, -87.4, 87.4, 88.5, 200, 1e12, 0.0, -0.0]])
    gate = x.astype(np.float32)
    expected = activation(gate.astype(np.float64), act)
    whole, found = guarded(gate)
    _native.act_mul(isa, found, np.ones_like(gate), gate.size, act)
    assert_guards(whole)
    assert np.isfinite(found).all()
    assert (np.abs(found - expected) <= 1e-6 * np.maximum(1, np.abs(expected))).all()


@pytest.mark.parametrize("isa", variants("act_mul"))
def test_exponential_is_accurate(isa: str) -> None:
    """silu(-x) = -x exp(-x) / (1 + exp(-x)), so for large x the relative error is exp's."""
    x = np.linspace(-80, -20, 20001).astype(np.float32)
    expected = activation(x.astype(np.float64), "silu")
    found = x.copy()
    _native.act_mul(isa, found, np.ones_like(x), x.size, "silu")
    assert (np.abs(found / expected - 1)).max() < 1e-6


@pytest.mark.parametrize("isa", variants("act_mul"))
@pytest.mark.parametrize("n", SIZES)
def test_act_mul_tails(isa: str, n: int) -> None:
    rng = np.random.default_rng(n)
    gate, up = rng.standard_normal((2, n + 5)).astype(np.float32)
    whole, found = guarded(gate)
    _native.act_mul(isa, found, up, n, "silu")
    assert_guards(whole)
    assert_close(found[:n], (activation(gate.astype(np.float64), "silu") * up)[:n], 1e-6)
    assert np.array_equal(found[n:], gate[n:])


@pytest.mark.parametrize("isa", variants("act_mul"))
def test_nan_is_not_lost(isa: str) -> None:
    gate = np.full(9, np.nan, np.float32)
    for act in ("silu", "gelu", "gelu_tanh"):
        found = gate.copy()
        _native.act_mul(isa, found, np.ones(9, np.float32), 9, act)
        assert np.isnan(found).all()


@pytest.mark.parametrize("isa", variants("rope"))
@pytest.mark.parametrize("half", [1, 3, 4, 8, 10, 15, 64])
def test_rope(isa: str, half: int) -> None:
    rng = np.random.default_rng(half)
    x = rng.standard_normal(2 * half + 3).astype(np.float32)
    cosine, sine = rng.standard_normal((2, half)).astype(np.float32)
    low, high = x[:half].astype(np.float64), x[half : 2 * half].astype(np.float64)
    expected = np.concatenate([low * cosine - high * sine, high * cosine + low * sine, x[2 * half :]])
    whole, found = guarded(x)
    _native.rope(isa, found, cosine, sine)
    assert_guards(whole)
    assert_close(found, expected, 3e-7)


@pytest.mark.parametrize("isa", variants("exp_sum"))
@pytest.mark.parametrize("n", SIZES)
def test_exp_sum(isa: str, n: int) -> None:
    rng = np.random.default_rng(n)
    for spread in (0.1, 5.0, 60.0):
        x = (spread * rng.standard_normal(n)).astype(np.float32)
        x[rng.random(n) < 0.1] = -np.inf
        top = np.float32(x.max() if np.isfinite(x.max()) else 1.0)
        expected = np.exp(np.float64(x) - np.float64(top)).sum()
        assert _native.exp_sum(isa, guarded(x)[1], top) == pytest.approx(expected, rel=2e-6, abs=1e-30)
    assert math.isnan(_native.exp_sum(isa, np.full(n, np.nan, np.float32), 0.0))
