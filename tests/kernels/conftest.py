"""Weights and buffers for kernel tests."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeslm import _native
from edgeslm.formats import FORMATS, GROUP_SIZES, Parts, halve_scales, scale_exponent

F32Array = npt.NDArray[np.float32]
F64Array = npt.NDArray[np.float64]
U8Array = npt.NDArray[np.uint8]
I8Array = npt.NDArray[np.int8]
U16Array = npt.NDArray[np.uint16]
I32Array = npt.NDArray[np.int32]
Kernel = tuple[str, int, str]  # format, group, isa
PROT_NONE = 0
GUARD = np.float32(-12345.5)


def _at_page_end(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy, 16-byte aligned, that ends at most 15 bytes before a page that cannot be read: a kernel that
    reads past the end crashes."""
    page = mmap.PAGESIZE
    size = (values.nbytes + 31) // page * page + page
    area = mmap.mmap(-1, size + page)
    start = size - (values.nbytes + 15) // 16 * 16
    out = np.frombuffer(area, values.dtype, values.size, start)
    out[:] = values.ravel()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        address = ctypes.addressof(ctypes.c_char.from_buffer(area)) + size
        assert libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(page), PROT_NONE) == 0
    return out


@dataclass(frozen=True)
class Weight:
    """A stored matrix (n, k) and the float32 values it stands for."""

    format: str
    group: int
    data: U8Array
    scales: U16Array | None  # bits of halves
    scale: float  # of all
    values: F32Array

    def pack(self, x: F32Array, isa: str | None = "ref") -> U8Array:
        return _native.pack(self.format, isa, x, self.group)

    def linear(
        self,
        isa: str | None,
        x: F32Array,
        n0: int = 0,
        n1: int | None = None,
        bias: F32Array | None = None,
        y: F32Array | None = None,
    ) -> F32Array:
        """Packs x and runs the kernel. With y: accumulates into it."""
        n, k = self.values.shape
        packed, accumulate = self.pack(x), y is not None
        if y is None:
            y = np.full((len(x), n), GUARD, np.float32)
        end = n if n1 is None else n1
        stored = self.data, self.scales, self.scale
        _native.linear(self.format, isa, *stored, n, k, self.group, packed, y, n0, end, bias, accumulate)
        return y

    def embed(self, isa: str | None, row: int, scale: float) -> F32Array:
        n, k = self.values.shape
        out = np.full(k + 16, GUARD, np.float32)
        _native.embed(self.format, isa, self.data, self.scales, self.scale, n, k, self.group, row, scale, out)
        assert (out[k:] == GUARD).all(), "wrote past the row"
        return out[:k]


Encode = Callable[[str, int, F32Array], Weight]
Store = Callable[[str, int, Parts, tuple[int, int]], Weight]


def _store(format: str, group: int, parts: Parts, shape: tuple[int, int]) -> Weight:
    values = FORMATS[format].decode(parts, shape, group)
    data = _at_page_end(np.ascontiguousarray(parts["data"]).reshape(-1).view(np.uint8))
    if not group:
        return Weight(format, group, data, None, 1.0, values)
    exponent = scale_exponent(float(np.abs(parts["scales"]).max()))
    halves, rounded = halve_scales(parts["scales"], exponent)
    np.testing.assert_array_equal(rounded, parts["scales"])
    return Weight(format, group, data, _at_page_end(halves.view(np.uint16)), 2.0**exponent, values)


@pytest.fixture
def encode() -> Encode:
    """(format, group, float32 rows) → Weight."""
    return lambda format, group, rows: _store(format, group, FORMATS[format].encode(rows, group), rows.shape)


@pytest.fixture
def from_parts() -> Store:
    """(format, group, parts as stored, shape) → Weight, for bytes that no quantiser would write."""
    return _store


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


KERNELS: dict[str, Callable[[str], bool]] = {
    "kernel": lambda format: True,
    "blockwise_kernel": lambda format: FORMATS[format].grouped,
    "dense_kernel": lambda format: not FORMATS[format].grouped,
    "half_kernel": lambda format: format == "f16",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The fixtures of KERNELS: (format, group, isa) of every row of the manifest with the module's OP."""
    for fixture in KERNELS.keys() & set(metafunc.fixturenames):
        cases = []
        for op, format, isa, runnable in _native.kernel_rows():
            if op != metafunc.module.OP or not KERNELS[fixture](format):
                continue
            marks = () if runnable else pytest.mark.skip(f"this CPU lacks {isa}")
            for group in GROUP_SIZES if FORMATS[format].grouped else (0,):
                cases.append(pytest.param((format, group, isa), id=f"{format}-{group}-{isa}", marks=marks))
        metafunc.parametrize(fixture, cases)
