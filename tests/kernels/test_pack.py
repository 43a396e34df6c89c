"""Quantising activation rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeslm import _native

if TYPE_CHECKING:
    from tests.kernels.conftest import F32Array, I8Array, I32Array, Kernel

OP = "pack"
ZERO_POINT = {"q8": 128, "q4": 8}
SIZES = [1, 31, 32, 33, 63, 172, 256, 1030]


def pack(format: str, x: F32Array, group: int) -> tuple[I8Array, F32Array, I32Array]:
    """The definition in native/kernels.h: values, scales, corrections."""
    m, k = x.shape
    groups = -(-k // group)
    padded = np.zeros((m, groups * group), np.float32)
    padded[:, :k] = x
    padded = padded.reshape(m, groups, group)
    peak = np.abs(padded).max(-1)
    inverse = np.divide(np.float32(127), peak, out=np.zeros_like(peak), where=peak >= 1e-36)
    values = np.rint(padded * inverse[..., None]).astype(np.int8)
    corrections = -ZERO_POINT[format] * values.sum(-1, dtype=np.int32)
    scales = np.where(peak >= 1e-36, peak / np.float32(127), np.float32(0))
    values = values.reshape(m, -1)
    if format == "q4":
        values = values.reshape(m, -1, 16, 2).swapaxes(2, 3).reshape(m, -1)
    return values, scales, corrections


def rows(rng: np.random.Generator, k: int) -> F32Array:
    """Random, zero, tiny, all equal, huge, one peak."""
    x = rng.standard_normal((8, k)).astype(np.float32)
    x[1] = 0
    x[2] = 1e-40
    x[3] = -3.5
    x[4] *= np.float32(1e37)
    x[5, k // 2] = 1e6
    x[6] = np.where(np.arange(k) % 2, 1e-36, -0.999e-36)
    return x


@pytest.mark.parametrize("k", SIZES)
def test_equals_definition(kernel: Kernel, k: int, rng: np.random.Generator) -> None:
    format, group, isa = kernel
    x = rows(rng, k)
    packed = _native.pack(format, isa, x, group)
    groups = -(-k // group)
    kp = groups * group
    values, scales, corrections = pack(format, x, group)
    np.testing.assert_array_equal(packed[:, :kp].view(np.int8), values)
    np.testing.assert_array_equal(packed[:, kp : kp + 4 * groups].copy().view(np.float32), scales)
    np.testing.assert_array_equal(packed[:, kp + 4 * groups : kp + 8 * groups].copy().view(np.int32), corrections)
    assert (packed[:, kp + 8 * groups :] == 0xA5).all(), "wrote past the corrections"
    assert packed.ctypes.data % 64 == 0 and packed.shape[1] % 64 == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_reaches_the_scale(kernel: Kernel, bad: float, rng: np.random.Generator) -> None:
    format, group, isa = kernel
    x = rng.standard_normal((2, 40)).astype(np.float32)
    x[1, 3] = bad
    packed = _native.pack(format, isa, x, group)
    np.testing.assert_array_equal(packed, _native.pack(format, "ref", x, group))
    groups = -(-40 // group)
    scales = packed[:, groups * group : groups * (group + 4)].copy().view(np.float32)
    assert np.isfinite(scales[0]).all() and not np.isfinite(scales[1, 0])
