"""Group-wise integer formats, laid out as onnxruntime's MatMulNBits reads them.

A row of k inputs is cut into ceil(k / group_size) groups, the last one padded with zeros. Per group: unsigned
integers q and one float32 scale s; the weight is (q - zero) * s with zero = 2^(bits - 1).

    q8   data (n, groups, group_size) uint8
    q4   data (n, groups, group_size / 2) uint8: element 2j in the low nibble of byte j, element 2j + 1 in the high one
    both scales (n, groups) float32, which onnxruntime reads
         scales_f16 (n, groups) float16: the same scales over a power of two of the whole tensor, which our kernels read

Quantisers round scales to the significand of a half, so both copies are the same numbers, but for scales 2^30 times
smaller than the tensor's largest: what a half cannot hold of them is dropped from both.

Layout: onnxruntime, docs/ContribOperators.md, com.microsoft.MatMulNBits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgeslm.formats.base import F32Array, Format, Part, Parts
from edgeslm.lazy_numpy import np

if TYPE_CHECKING:
    import numpy.typing as npt

GROUP_SIZES = (32, 64, 128)
SCALE_EXPONENTS = range(-126, 113)  # powers of two that are float32 numbers, for scales of any finite weights

# Below these an inverse would overflow; the group is stored as zeros.
TINY_SCALE = 2.0**-126  # the smallest normal float32
TINY_PEAK = 1e-36

HALF_EXPONENT = 16  # the largest half is just below 2^16
DROPPED_BITS = 13  # of a float32's fraction, which a half has no room for


def group_count(k: int, group_size: int) -> int:
    """Groups of a row of k inputs, the last one padded."""
    return -(-k // group_size)


def _grouped(rows: F32Array, group_size: int) -> F32Array:
    """(n, k) → (n, groups, group_size), zero-padded."""
    n, k = rows.shape
    groups = group_count(k, group_size)
    if k != groups * group_size:
        rows = np.pad(rows, ((0, 0), (0, groups * group_size - k)))
    return rows.reshape(n, groups, group_size)


def _round_to_half(scales: F32Array) -> F32Array:
    """To the significand of a half, ties to even; the exponent stays a float32's."""
    bits = scales.view(np.uint32)
    half = np.uint32((1 << (DROPPED_BITS - 1)) - 1)
    rounded = (bits + half + ((bits >> DROPPED_BITS) & 1)) >> DROPPED_BITS << DROPPED_BITS
    return np.asarray(rounded, np.uint32).view(np.float32)


def _inverse(scales: F32Array) -> F32Array:
    """1 / scale, or 0 where the scale is too small for it."""
    return np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=np.abs(scales) >= TINY_SCALE)


def scale_exponent(peak: float) -> int:
    """The power of two that brings a tensor's largest scale to the top of the range of halves."""
    return max(math.frexp(peak)[1] - HALF_EXPONENT, SCALE_EXPONENTS.start)


def halve_scales(scales: F32Array, exponent: int) -> tuple[npt.NDArray[np.float16], F32Array]:
    """``scales`` as halves times 2^exponent: the halves, and the float32 scales that these are."""
    halves = np.ldexp(scales, -exponent).astype(np.float16)
    return halves, np.ldexp(halves.astype(np.float32), exponent)


class _Blockwise(Format):
    grouped = True
    bits: int

    def layout(self, shape: tuple[int, ...], group_size: int) -> dict[str, Part]:
        n, k = shape
        groups = group_count(k, group_size)
        return {
            "data": Part("u1", (n, groups, group_size * self.bits // 8)),
            "scales": Part("<f4", (n, groups)),
            "scales_f16": Part("<f2", (n, groups)),
        }

    def _dequantize(self, q: npt.NDArray[np.uint8], parts: Parts, shape: tuple[int, ...]) -> F32Array:
        zero = np.float32(1 << (self.bits - 1))
        w = (q.astype(np.float32) - zero) * parts["scales"][..., None]
        return w.reshape(shape[0], -1)[:, : shape[1]]


class Q8(_Blockwise):
    """8 bits; s = max |w| / 127, so q stays in 1..255 and is symmetric."""

    name = "q8"
    bits = 8

    def encode(self, rows: F32Array, group_size: int) -> Parts:
        w = _grouped(rows, group_size)
        scales = _round_to_half(np.abs(w).max(axis=-1) / np.float32(127))
        q = np.rint(w * _inverse(scales)[..., None])
        q = np.clip(q, np.float32(-127), np.float32(127)) + np.float32(128)
        return {"data": q.astype(np.uint8), "scales": scales}

    def decode(self, parts: Parts, shape: tuple[int, ...], group_size: int) -> F32Array:
        return self._dequantize(parts["data"], parts, shape)


class Q4(_Blockwise):
    """4 bits; the scale of each group is searched for the least squared error, in which large weights count more.
    The integers are those nearest to the weights by that scale, once it is rounded.

    Each candidate step maps the group's largest magnitude (with its sign) to -8 · (1 + 0.0125 · c) for
    c = -SEARCH..SEARCH, rounds, and takes the best scale for those integers, s = Σ v·w·q / Σ v·q². The candidate that
    explains most of Σ v·w², i.e. the largest (Σ v·w·q)² / Σ v·q², wins; the first one on a tie. The weight's error
    counts v = √(mean of w² + w²), but for a factor of the group, as llama.cpp has it: an error of a large weight
    reaches the output more often than one that activations average out.
    """

    name = "q4"
    bits = 4
    SEARCH = 8

    def encode(self, rows: F32Array, group_size: int) -> Parts:
        w = _grouped(rows, group_size)
        peak = np.take_along_axis(w, np.abs(w).argmax(axis=-1)[..., None], axis=-1)
        inverse = np.divide(np.float32(-8), peak, out=np.zeros_like(peak), where=np.abs(peak) >= TINY_PEAK)
        square = (w * inverse) ** 2
        v = np.sqrt(square.sum(axis=-1, keepdims=True) / np.float32(group_size) + square)
        vw = v * w
        best_gain = np.full(peak.shape, -1, np.float32)
        scales = np.zeros_like(peak)
        for c in range(-self.SEARCH, self.SEARCH + 1):
            step = inverse * np.float32(1 + 0.0125 * c)
            q = np.clip(np.rint(w * step), np.float32(-8), np.float32(7))
            wq = (vw * q).sum(axis=-1, keepdims=True)
            qq = np.maximum((v * q * q).sum(axis=-1, keepdims=True), np.float32(1))
            gain = wq * wq / qq
            better = gain > best_gain
            best_gain = np.where(better, gain, best_gain)
            scales = np.where(better, wq / qq, scales)
        scales = _round_to_half(scales)
        q = np.clip(np.rint(w * _inverse(scales)), np.float32(-8), np.float32(7))
        q8 = (q + np.float32(8)).astype(np.uint8)
        return {"data": q8[..., 0::2] | (q8[..., 1::2] << 4), "scales": scales[..., 0]}

    def decode(self, parts: Parts, shape: tuple[int, ...], group_size: int) -> F32Array:
        data = parts["data"]
        q = np.empty((*data.shape[:-1], data.shape[-1] * 2), np.uint8)
        q[..., 0::2] = data & 15
        q[..., 1::2] = data >> 4
        return self._dequantize(q, parts, shape)
