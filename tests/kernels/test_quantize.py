"""The C quantisers against edgeslm.formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeslm import _native
from edgeslm.errors import ArgumentError
from edgeslm.formats import FORMATS

if TYPE_CHECKING:
    from tests.kernels.conftest import Kernel

OP = "quantize"


@pytest.mark.parametrize("k", [1, 31, 32, 172, 640])
def test_equals_numpy(kernel: Kernel, k: int, rng: np.random.Generator) -> None:
    format, group, isa = kernel
    rows = rng.standard_normal((203, k)).astype(np.float32) * np.float32(0.02)
    rows[0] = 0
    rows[1] = 1e-40
    rows[2] = -2.5
    rows[3] = np.where(np.arange(k) % 2, 1, -1)  # the peak is tied: the first one counts
    rows[4] = rng.standard_normal(k) * 1e30
    rows[5] = rng.standard_normal(k) * 1e-30
    with np.errstate(over="ignore", invalid="ignore"):
        parts = FORMATS[format].encode(rows, group)
    data, scales = _native.quantize(format, isa, rows, group)
    same = (data == parts["data"]).all(-1)
    assert (~same).sum() <= same.size // 10_000  # candidates of equal gain
    np.testing.assert_allclose(scales[same], parts["scales"][same], rtol=1e-6, atol=0)
    for ours, refs in zip((data, scales), _native.quantize(format, "ref", rows, group), strict=True):
        np.testing.assert_array_equal(ours, refs)


def test_error_is_within_half_a_step(kernel: Kernel, rng: np.random.Generator) -> None:
    """Independent of NumPy's encoder: what is decoded is near what went in."""
    format, group, isa = kernel
    rows = rng.standard_normal((64, 384)).astype(np.float32)
    data, scales = _native.quantize(format, isa, rows, group)
    decoded = FORMATS[format].decode({"data": data, "scales": scales}, rows.shape, group)
    relative = np.sqrt(((decoded - rows) ** 2).mean())
    assert relative < {"q8": 0.01, "q4": 0.12}[format]


@pytest.mark.parametrize(
    ("format", "shape", "group"),
    [("f32", (2, 2), 0), ("q4", (2, 64), 48), ("q4", (0, 64), 32), ("q5", (1, 1), 32)],
)
def test_refuses(format: str, shape: tuple[int, int], group: int) -> None:
    with pytest.raises(ArgumentError):
        _native.quantize(format, "ref", np.zeros(shape, np.float32), group)
