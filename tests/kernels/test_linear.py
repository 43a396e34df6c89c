"""Every linear kernel against the NumPy formats and against `ref`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeslm.formats import FORMATS

if TYPE_CHECKING:
    from tests.kernels.conftest import Encode, F32Array, F64Array, Kernel, Store, Weight

OP = "linear"
GUARD = np.float32(-12345.5)
SHAPES = [(1, 1), (3, 31), (5, 33), (37, 172), (33, 64), (70, 200), (16, 256), (20, 1030)]
ROWS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 67]


def activations_as_read(weight: Weight, x: F32Array) -> F64Array:
    """The float64 activations that packed rows stand for."""
    if not weight.group:
        return x.astype(np.float64)
    m, k = x.shape
    groups = -(-k // weight.group)
    kp = groups * weight.group
    packed = weight.pack(x)
    values = packed[:, :kp].view(np.int8).reshape(m, groups, weight.group).astype(np.float64)
    scales = np.ascontiguousarray(packed[:, kp : kp + 4 * groups]).view(np.float32)
    values = (values * scales[..., None]).reshape(m, kp)
    if weight.format == "q4":  # per 32: 16 of even index, 16 of odd index
        values = values.reshape(m, -1, 2, 16).swapaxes(2, 3).reshape(m, kp)
    return values[:, :k]


def assert_close(weight: Weight, actual: F32Array, x: F64Array, expected: F64Array) -> None:
    """Within float32 rounding of k products."""
    bound = np.abs(x).astype(np.float64) @ np.abs(weight.values).astype(np.float64).T
    assert np.isfinite(actual).all()
    error = np.abs(actual - expected) / (bound + 1e-30)
    assert error.max() <= 2.0**-24 * (weight.values.shape[1] + 8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_float64_product(
    kernel: Kernel, shape: tuple[int, int], encode: Encode, rng: np.random.Generator
) -> None:
    format, group, isa = kernel
    weight = encode(format, group, rng.standard_normal(shape).astype(np.float32))
    for m in ROWS:
        x = rng.standard_normal((m, shape[1])).astype(np.float32)
        read = activations_as_read(weight, x)
        assert_close(weight, weight.linear(isa, x), read, read @ weight.values.astype(np.float64).T)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blockwise_equals_ref_bit_for_bit(
    blockwise_kernel: Kernel, shape: tuple[int, int], encode: Encode, rng: np.random.Generator
) -> None:
    format, group, isa = blockwise_kernel
    weight = encode(format, group, rng.standard_normal(shape).astype(np.float32))
    for m in ROWS:
        x = rng.standard_normal((m, shape[1])).astype(np.float32)
        np.testing.assert_array_equal(weight.linear(isa, x), weight.linear("ref", x))


@pytest.mark.parametrize("exponent", [-100, -1, 60])
def test_scale_of_the_matrix_is_exact(
    blockwise_kernel: Kernel, exponent: int, encode: Encode, rng: np.random.Generator
) -> None:
    format, group, isa = blockwise_kernel
    weight = encode(format, group, rng.standard_normal((37, 172)).astype(np.float32))
    scaled = dataclasses.replace(weight, scale=weight.scale * 2.0**exponent)
    for m in (1, 5, 9):
        x = rng.standard_normal((m, 172)).astype(np.float32)
        np.testing.assert_array_equal(scaled.linear(isa, x), np.ldexp(weight.linear(isa, x), exponent))


@pytest.mark.parametrize("fill", [0, 1, 127, 128, 129, 255, "mixed"])
@pytest.mark.parametrize("sign", [1, -1, "alternating"])
def test_extreme_blockwise_values(
    blockwise_kernel: Kernel, fill: int | str, sign: int | str, from_parts: Store, rng: np.random.Generator
) -> None:
    """Sums at the ends of 16 bits and beyond: also bytes that no quantiser writes."""
    format, group, isa = blockwise_kernel
    n, k = 21, 5 * group - 3
    layout = FORMATS[format].layout((n, k), group)
    shape = layout["data"].shape
    data = rng.integers(0, 2, shape, np.uint8) * np.uint8(255) if fill == "mixed" else np.full(shape, fill, np.uint8)
    weight = from_parts(format, group, {"data": data, "scales": np.ones(layout["scales"].shape, np.float32)}, (n, k))
    signs = np.where(np.arange(k) % 2, 1, -1) if sign == "alternating" else np.full(k, sign)
    for m in (1, 5, 9):
        x = np.tile(signs.astype(np.float32) * 127, (m, 1))
        y = weight.linear(isa, x)
        np.testing.assert_array_equal(y, weight.linear("ref", x))
        np.testing.assert_array_equal(y, x @ weight.values.T)  # small integers: exact in float32


@pytest.mark.parametrize("value", [0.0, 1e-45, -1e-40, 5.9604645e-08, 65504.0, -65504.0])
def test_extreme_float_values(dense_kernel: Kernel, value: float, encode: Encode) -> None:
    format, group, isa = dense_kernel
    weight = encode(format, group, np.full((7, 45), value, np.float32))
    for m in (1, 4, 9):
        x = np.full((m, 45), 2.0, np.float32)
        expected = np.full((m, 7), 90.0, np.float64) * weight.values[0, 0]
        np.testing.assert_allclose(weight.linear(isa, x), expected, rtol=1e-5, atol=1e-42)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_activations_are_not_lost(
    kernel: Kernel, bad: float, encode: Encode, rng: np.random.Generator
) -> None:
    format, group, isa = kernel
    weight = encode(format, group, rng.standard_normal((9, 70)).astype(np.float32))
    for m in (1, 6):
        x = rng.standard_normal((m, 70)).astype(np.float32)
        x[0, 41] = bad
        y = weight.linear(isa, x)
        assert not np.isfinite(y[0]).any()
        assert np.isfinite(y[1:]).all()


def test_zero_activations_give_zero(kernel: Kernel, encode: Encode, rng: np.random.Generator) -> None:
    format, group, isa = kernel
    weight = encode(format, group, rng.standard_normal((9, 70)).astype(np.float32))
    for m in (1, 6):
        assert (weight.linear(isa, np.zeros((m, 70), np.float32)) == 0).all()


@pytest.mark.parametrize("shape", [(37, 172), (66, 320)], ids=str)
def test_result_is_independent_of_the_cut(
    kernel: Kernel, shape: tuple[int, int], encode: Encode, rng: np.random.Generator
) -> None:
    """Rows together equal rows alone, a range of outputs the whole, bit for bit; nothing else is written."""
    format, group, isa = kernel
    n, k = shape
    weight = encode(format, group, rng.standard_normal(shape).astype(np.float32))
    x = rng.standard_normal((67, k)).astype(np.float32)
    whole = weight.linear(isa, x)
    for m in (*ROWS[:-1], 32, 64):
        np.testing.assert_array_equal(weight.linear(isa, x[:m]), whole[:m])
    for n0, n1 in ((0, 1), (1, 4), (3, n - 2), (n - 1, n), (5, 30)):
        for m in (1, 3, 9):
            part = weight.linear(isa, x[:m], n0, n1)
            np.testing.assert_array_equal(part[:, n0:n1], whole[:m, n0:n1])
            assert (part[:, :n0] == GUARD).all() and (part[:, n1:] == GUARD).all()


def test_bias_accumulate_and_guards(kernel: Kernel, encode: Encode, rng: np.random.Generator) -> None:
    """y + (w x + bias), rounded in that order, in rows wider than n; the cells around stay as they were."""
    format, group, isa = kernel
    weight = encode(format, group, rng.standard_normal((37, 172)).astype(np.float32))
    bias = rng.standard_normal(37).astype(np.float32)
    for m in (1, 3, 7, 12):
        x = rng.standard_normal((m, 172)).astype(np.float32)
        plain = weight.linear(isa, x)
        biased = weight.linear(isa, x, bias=bias)
        np.testing.assert_array_equal(biased, plain + bias)
        area = np.full((m + 2, 41), GUARD, np.float32)
        before = rng.standard_normal((m, 37)).astype(np.float32)
        area[1:-1, :37] = before
        weight.linear(isa, x, bias=bias, y=area[1:-1])
        np.testing.assert_array_equal(area[1:-1, :37], before + biased)
        assert (area[[0, -1]] == GUARD).all() and (area[:, 37:] == GUARD).all()
