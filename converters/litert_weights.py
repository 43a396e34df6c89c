"""How LiteRT stores weights, and the integers and scales for it.

    float32   (n, k) as it is
    int8      one float32 scale for each row: w = q · s, q in -127..127
    int4      one scale for each block along a row, in float16; or, where no block divides k, one float32 scale for each
              row. q in -8..7, two to a byte, the even element in the low nibble

Layouts: LiteRT, tflite/converter/schema/schema.fbs (QuantizationParameters, BlockwiseQuantization). XNNPACK, which runs
the linears, takes positive scales only, blocks of a multiple of 32, and rounds their scales to bfloat16: so they are
rounded here already, and what is stored is what is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeslm.converters.policy import Options
from edgeslm.errors import UnsupportedModelError
from edgeslm.formats import GROUP_SIZES
from edgeslm.spec import DecoderSpec, tensor_shapes

F32Array = npt.NDArray[np.float32]

DTYPES = {"none": "float32", "int8": "int8", "int4": "int4"}
STEPS = 4  # candidates for a scale, to either side
SMALLEST_SCALE = np.float32(2.0**-14)  # float16's smallest normal number
LARGEST_SCALE = np.float32(65280)  # the largest number that both float16 and bfloat16 have
CHUNK = 1 << 16  # weights whose candidates are tried at a time: they stay in the core's cache


@dataclass(frozen=True)
class Storage:
    """Of one tensor."""

    dtype: str
    block: int = 0  # weights that share a scale; 0: a row, or no scale


def storages(spec: DecoderSpec, options: Options) -> dict[str, Storage]:
    """Canonical name → storage, in decoder order. Vectors stay float32.

    Raises:
        UnsupportedModelError: int4 for rows of an odd length.
    """

    def choose(name: str, shape: tuple[int, ...]) -> Storage:
        if len(shape) == 1:
            return Storage("float32")
        level = options.embed if name == "embed" and options.embed else options.quantize
        if level != "int4":
            return Storage(DTYPES[level])
        if shape[1] % 2:
            raise UnsupportedModelError(f"{name}: rows of {shape[1]} weights have no int4 form in LiteRT; choose int8")
        return Storage("int4", _block(shape[1], options.group_size))

    return {name: choose(name, shape) for name, shape in tensor_shapes(spec).items()}


def exceptions(chosen: Mapping[str, Storage], options: Options) -> dict[str, int]:
    """The int4 tensors whose blocks are not of the size asked for, and theirs; 0: one scale for each row."""
    return {n: s.block for n, s in chosen.items() if s.dtype == "int4" and s.block != options.group_size}


def encode(rows: F32Array, storage: Storage) -> tuple[npt.NDArray[np.uint8], F32Array]:
    """Bytes of (n, k) float32 rows, and their scales: (n,), (n, blocks), or none at all."""
    if storage.dtype == "float32":
        return np.ascontiguousarray(rows).reshape(-1).view(np.uint8), np.empty(0, np.float32)
    if storage.dtype == "int8":
        q, scales = _quantize_int8(rows)
        return q.reshape(-1).view(np.uint8), scales
    q, scales = _quantize_int4(rows.reshape(-1, storage.block or rows.shape[1]), bool(storage.block))
    pairs = q.reshape(-1, 2).view(np.uint8)
    data = np.asarray((pairs[:, 0] & 15) | (pairs[:, 1] << 4), np.uint8)
    return data, scales.reshape(len(rows), -1) if storage.block else scales


def decode(data: npt.NDArray[np.uint8], scales: F32Array, shape: tuple[int, ...], storage: Storage) -> F32Array:
    """What :func:`encode` stored, as float32 of ``shape``."""
    if storage.dtype == "float32":
        return data.view(np.float32).reshape(shape)
    q = data.view(np.int8)
    if storage.dtype == "int4":
        q = np.stack([q << 4 >> 4, q >> 4], axis=-1)
    scales = scales.reshape(-1, 1)
    return np.asarray(q.reshape(len(scales), -1) * scales, np.float32).reshape(shape)


def _block(k: int, wanted: int) -> int:
    """The largest allowed block, at most the one wanted, that divides k; 0 if there is none."""
    return max((b for b in GROUP_SIZES if b <= wanted and k % b == 0), default=0)


def _quantize_int8(rows: F32Array) -> tuple[npt.NDArray[np.int8], F32Array]:
    peaks = np.abs(rows).max(axis=1)
    scales = np.where(peaks > np.finfo(np.float32).tiny * 127, peaks / np.float32(127), np.float32(1))
    q = np.rint(rows / scales[:, None])
    return np.clip(q, np.float32(-127), np.float32(127)).astype(np.int8), scales


def _quantize_int4(groups: F32Array, coarse: bool) -> tuple[npt.NDArray[np.int8], F32Array]:
    """(n, k) groups → q, and n scales of which each is searched for; ``coarse`` scales are as blocks store them."""
    q, scales = np.empty(groups.shape, np.int8), np.empty(len(groups), np.float32)
    step = max(1, CHUNK // groups.shape[1])
    for start in range(0, len(groups), step):
        w = groups[start : start + step]
        s = _search_scales(w)
        if coarse:
            s = np.clip(_round_to_bfloat16(s), SMALLEST_SCALE, LARGEST_SCALE)
        q[start : start + step] = np.clip(np.rint(w / s[:, None]), np.float32(-8), np.float32(7))
        scales[start : start + step] = s
    return q, scales


def _search_scales(w: F32Array) -> F32Array:
    """For each group the scale of the least squared error among a few.

    Each candidate maps the group's largest magnitude to the end of -8..7 on its side, times 1 + 0.025 · c for
    c = -STEPS..STEPS, rounds to q, and takes the best scale for these: s = Σ w·q / Σ q². The largest (Σ w·q)² / Σ q²
    wins.
    """
    low, high = w.min(axis=1), w.max(axis=1)
    tops = np.where(-low > high, np.float32(8), np.float32(7))
    peaks = np.maximum(-low, high)
    inverse = np.divide(tops, peaks, out=np.zeros_like(peaks), where=peaks > np.float32(1e-36))
    best = np.zeros_like(peaks)
    scales: F32Array = np.ones_like(peaks)
    q = np.empty_like(w)
    for c in range(-STEPS, STEPS + 1):
        np.multiply(w, (inverse * np.float32(1 + 0.025 * c))[:, None], out=q)
        np.rint(q, out=q)
        np.clip(q, np.float32(-8), np.float32(7), out=q)
        wq, qq = np.einsum("nk,nk->n", w, q), np.einsum("nk,nk->n", q, q)
        qq = np.maximum(qq, np.float32(1))
        gain = wq * wq / qq
        scales = np.where(gain > best, wq / qq, scales)
        best = np.maximum(best, gain)
    return scales


def _round_to_bfloat16(x: F32Array) -> F32Array:
    """To the nearest, ties to even."""
    bits = x.view(np.uint32)
    rounded = np.asarray((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000), np.uint32)
    return np.asarray(rounded.view(np.float32))
