"""Reading one row of a weight as float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.kernels.conftest import Encode, Kernel, Store

OP = "embed"


@pytest.mark.parametrize("k", [1, 7, 8, 15, 31, 33, 172, 256])
def test_equals_format(kernel: Kernel, k: int, encode: Encode, rng: np.random.Generator) -> None:
    format, group, isa = kernel
    weight = encode(format, group, rng.standard_normal((5, k)).astype(np.float32))
    for scale in (1.0, 0.125, 45.254834):
        for row in (0, 2, 4):
            expected = weight.values[row] * np.float32(scale)
            np.testing.assert_array_equal(weight.embed(isa, row, scale), expected)


def test_every_half(half_kernel: Kernel, from_parts: Store) -> None:
    format, group, isa = half_kernel
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(64, -1)
    weight = from_parts(format, group, {"data": halves}, halves.shape)
    with np.errstate(invalid="ignore"):
        expected = halves.astype(np.float32)
    for row in range(64):
        np.testing.assert_array_equal(weight.embed(isa, row, 1.0), expected[row])


def test_every_byte(blockwise_kernel: Kernel, from_parts: Store) -> None:
    format, group, isa = blockwise_kernel
    count = group if format == "q8" else group // 2
    data = np.arange(256, dtype=np.uint8).reshape(1, -1, count)
    groups = data.shape[1]
    scales = (np.arange(groups, dtype=np.float32) + 0.5)[None]
    weight = from_parts(format, group, {"data": data, "scales": scales}, (1, groups * group))
    np.testing.assert_array_equal(weight.embed(isa, 0, 1.0), weight.values[0])
