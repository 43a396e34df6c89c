"""How LiteRT stores weights, and the integers and scales for it.

    float32   (n, k) as it is
    int8      one float32 scale for each row: w = q · s, q in -127..127; rows of down may be cut into a few tensors
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

from edgeslm.converters.policy import Options, largest_group
from edgeslm.converters.signed_int4 import pack_int4, quantize_int4, unpack_int4
from edgeslm.errors import UnsupportedModelError
from edgeslm.spec import DecoderSpec, tensor_shapes

F32Array = npt.NDArray[np.float32]

DTYPES = {"none": "float32", "int8": "int8", "int4": "int4"}
# XNNPACK rounds the inputs of a linear to 8 bits, on a scale for each token. Those of down are products, in which a few
# are much larger than the rest; in parts, they cost the others of their part only: a quarter less KL.
DOWN_PARTS, PART_WIDTH = 4, 128
SMALLEST_SCALE = np.float32(2.0**-14)  # float16's smallest normal number
LARGEST_SCALE = np.float32(65280)  # the largest number that both float16 and bfloat16 have


@dataclass(frozen=True)
class Storage:
    """Of one tensor."""

    dtype: str
    block: int = 0  # weights that share a scale; 0: a row, or no scale
    parts: int = 1  # equal parts along the rows, each a tensor of its own


def storages(spec: DecoderSpec, options: Options) -> dict[str, Storage]:
    """Canonical name → storage, in decoder order. Vectors stay float32.

    Raises:
        UnsupportedModelError: int4 for rows of an odd length.
    """

    def choose(name: str, shape: tuple[int, ...]) -> Storage:
        if len(shape) == 1:
            return Storage("float32")
        level = options.embed if name == "embed" and options.embed else options.quantize
        if level == "none":
            return Storage("float32")
        if level == "int8":
            return Storage("int8", parts=_down_parts(shape[1]) if name.endswith(".mlp.down") else 1)
        if shape[1] % 2:
            raise UnsupportedModelError(f"{name}: rows of {shape[1]} weights have no int4 form in LiteRT; choose int8")
        return Storage("int4", largest_group(shape[1], options.group_size))

    return {name: choose(name, shape) for name, shape in tensor_shapes(spec).items()}


def part_names(name: str, parts: int) -> list[str]:
    """Of a weight's tensors."""
    return [name] if parts == 1 else [f"{name}.{i}" for i in range(parts)]


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
    if not storage.block:
        q, scales = quantize_int4(rows)
        return pack_int4(q), scales
    q, scales = quantize_int4(rows.reshape(-1, storage.block), _as_blocks_store)
    return pack_int4(q), scales.reshape(len(rows), -1)


def decode(data: npt.NDArray[np.uint8], scales: F32Array, shape: tuple[int, ...], storage: Storage) -> F32Array:
    """What :func:`encode` stored, as float32 of ``shape``."""
    if storage.dtype == "float32":
        return data.view(np.float32).reshape(shape)
    q = unpack_int4(data) if storage.dtype == "int4" else data.view(np.int8)
    scales = scales.reshape(-1, 1)
    return np.asarray(q.reshape(len(scales), -1) * scales, np.float32).reshape(shape)


def _quantize_int8(rows: F32Array) -> tuple[npt.NDArray[np.int8], F32Array]:
    peaks = np.abs(rows).max(axis=1)
    scales = np.where(peaks > np.finfo(np.float32).tiny * 127, peaks / np.float32(127), np.float32(1))
    q = np.rint(rows / scales[:, None])
    return np.clip(q, np.float32(-127), np.float32(127)).astype(np.int8), scales


def _as_blocks_store(scales: F32Array) -> F32Array:
    return np.clip(_round_to_bfloat16(scales), SMALLEST_SCALE, LARGEST_SCALE)


def _round_to_bfloat16(x: F32Array) -> F32Array:
    """To the nearest, ties to even."""
    bits = x.view(np.uint32)
    rounded = np.asarray((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000), np.uint32)
    return np.asarray(rounded.view(np.float32))


def _down_parts(k: int) -> int:
    """Into how many equal parts k inputs are cut."""
    return next(n for n in range(min(DOWN_PARTS, k // PART_WIDTH) or 1, 0, -1) if k % n == 0)
