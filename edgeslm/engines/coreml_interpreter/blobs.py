"""``weight.bin``: constants outside the program, checked against the file and dequantised where they are used.

The file is a header of 64 bytes and blobs at multiples of 64. A blob starts with a header of its own (little-endian):

    uint32 0xDEADBEEF, uint32 type, uint64 data bytes, uint64 data offset in the file, uint64 unused bits at the end
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edgeslm.engines.coreml_interpreter.types import NUMPY, Array, TensorType
from edgeslm.errors import BundleError

F32 = npt.NDArray[np.float32]
HALF_MIN = 2.0**-14  # the smallest normal float16
_HEADER = struct.Struct("<IIQQQ")
_SENTINEL = 0xDEADBEEF
_ALIGNMENT = 64
_STORED = {"fp16": 1, "fp32": 2, "uint8": 3, "int8": 4, "int16": 6, "uint16": 7, "int4": 8, "uint4": 11, "int32": 14}
_BYTES = np.arange(256, dtype=np.uint8)
_NIBBLES = np.stack([_BYTES & 15, _BYTES >> 4], axis=-1)  # (256, 2): what a byte holds, the low half first
_HALVES = {"uint4": _NIBBLES, "int4": (_NIBBLES ^ 8).astype(np.int8) - np.int8(8)}


@dataclass(frozen=True)
class Blob:
    """A constant on disk: elements of a known type, in rows along the first dimension."""

    raw: npt.NDArray[np.uint8]
    dtype: str
    shape: tuple[int, ...]

    def rows(self, start: int, stop: int) -> Array:
        """Rows ``start``..``stop`` - 1; a view unless elements are packed."""
        width = math.prod(self.shape[1:])
        shape = (stop - start, *self.shape[1:])
        if self.dtype not in ("int4", "uint4"):
            return self.raw.view(NUMPY[self.dtype])[start * width : stop * width].reshape(shape)
        first, last = start * width, stop * width  # in elements; the low half of a byte comes first
        halves = _HALVES[self.dtype].take(self.raw[first // 2 : (last + 1) // 2], axis=0).reshape(-1)
        return halves[first % 2 : first % 2 + last - first].reshape(shape)

    def float_rows(self, start: int, stop: int) -> F32:
        """The same as float32."""
        return np.asarray(self.rows(start, stop), np.float32)

    def array(self) -> Array:
        """The whole constant."""
        return self.rows(0, self.shape[0]) if self.shape else self.raw.view(NUMPY[self.dtype]).reshape(())


def read_blob(file: npt.NDArray[np.uint8], offset: int, type_: TensorType) -> Blob:
    """The blob whose header lies at ``offset``.

    Raises:
        BundleError: it is outside the file, or holds something else than the program says.
    """
    where = f"weight file, offset {offset}"
    if offset % _ALIGNMENT or offset + _ALIGNMENT > file.size or type_.dtype not in _STORED:
        raise BundleError(f"{where}: no blob of {type_} can start there; copy or convert the model again")
    sentinel, kind, size, start, unused = _HEADER.unpack_from(file.data, offset)
    shape = tuple(d or 0 for d in type_.shape)
    bits = math.prod(shape) * (4 if type_.dtype in ("int4", "uint4") else 8 * NUMPY[type_.dtype].itemsize)
    if sentinel != _SENTINEL or kind != _STORED[type_.dtype] or None in type_.shape:
        raise BundleError(f"{where}: not a blob of {type_}; copy or convert the model again")
    if size != -(-bits // 8) or unused not in (0, size * 8 - bits) or start % _ALIGNMENT or start + size > file.size:
        raise BundleError(f"{where}: {size} bytes at {start} are not those of {type_} inside a file of {file.size}")
    return Blob(file[start : start + size], type_.dtype, shape)


class Weight:
    """A large constant, given out in rows. Nothing is kept but a float32 copy where ``room`` for it was granted.

    Attributes:
        dtype, shape: of the constant, as ops see it.
    """

    def __init__(self, type_: TensorType, source: Blob | Blockwise, room: Room) -> None:
        self.dtype = NUMPY[type_.dtype]
        self.shape = tuple(d or 0 for d in type_.shape)
        self._source, self._room = source, room
        self._kept: F32 | None = None

    def array(self) -> Array:
        """The whole constant."""
        return self._source.rows(0, self.shape[0])

    def take(self, indices: npt.NDArray[np.integer]) -> Array:
        """Rows by index, in range: shape ``indices.shape + shape[1:]``."""
        unique, places = np.unique(indices, return_inverse=True)
        rows = np.concatenate([self._source.rows(int(i), int(i) + 1) for i in unique])
        return np.asarray(rows[places.reshape(indices.shape)])

    def float_rows(self, start: int, stop: int) -> F32:
        """Rows as float32; the first call keeps all of them if there is room."""
        if self._kept is None and self._room.grant(4 * math.prod(self.shape)):
            self._kept = self._source.float_rows(0, self.shape[0])
        if self._kept is not None:
            return self._kept[start:stop]
        return self._source.float_rows(start, stop)


class Room:
    """Bytes left for float32 copies of weights, shared by the weights of a program."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def grant(self, count: int) -> bool:
        """Take ``count`` bytes, if so many are left."""
        if count > self._left:
            return False
        self._left -= count
        return True


@dataclass(frozen=True)
class Blockwise:
    """Quantised elements with a scale, and maybe an offset, per block: (data - offset) · scale in the scale's type."""

    data: Blob | Array
    scale: Array
    offset: Array | None

    def rows(self, start: int, stop: int) -> Array:
        """Dequantised rows; computed in float32 and rounded once to the scale's type."""
        dequantised: Array = self._products(start, stop).astype(self.scale.dtype, copy=False)
        return dequantised

    def float_rows(self, start: int, stop: int) -> F32:
        """The same as float32."""
        if self.scale.dtype == np.float16 and self._normal:
            return round_to_half(self._products(start, stop))
        return np.asarray(self.rows(start, stop), np.float32)

    @cached_property
    def _normal(self) -> bool:
        """Are all products zero or within float16's normal range? Integers times scales within it are."""
        whole = (NUMPY[self.data.dtype] if isinstance(self.data, Blob) else self.data.dtype).kind in "iu"
        scales = np.abs(self.scale[self.scale != 0].astype(np.float32))
        return whole and self.offset is None and bool(scales.size) and HALF_MIN <= scales.min() <= scales.max() < 256

    def _products(self, start: int, stop: int) -> F32:
        data = self.data.rows(start, stop) if isinstance(self.data, Blob) else self.data[start:stop]
        values = data.astype(np.float32).reshape(stop - start, *self._blocks(lambda count, size: (count, size)))
        if self.offset is not None:
            values -= self._per_block(self.offset, start, stop)
        values *= self._per_block(self.scale, start, stop)
        return values.reshape(data.shape)

    def _blocks(self, pair: Callable[[int, int], tuple[int, int]]) -> list[int]:
        """``pair`` of the number and the size of blocks along each dimension but the first, in a row."""
        axes = zip(self.scale.shape[1:], self.data.shape[1:], strict=True)
        return [n for blocks, length in axes for n in pair(blocks, length // blocks)]

    def _per_block(self, values: Array, start: int, stop: int) -> Array:
        """The values of the rows' blocks, to be broadcast over the elements of each."""
        rows = values[np.arange(start, stop) // (self.data.shape[0] // values.shape[0])]
        spread: Array = rows.astype(np.float32).reshape(stop - start, *self._blocks(lambda count, size: (count, 1)))
        return spread


def round_to_half(values: F32) -> F32:
    """Rounded in place as a cast to float16 rounds, to nearest and ties to even; for values of its normal range.

    NumPy's own cast there and back takes several times as long.
    """
    bits = values.view(np.uint32)
    up = bits >> 13
    up &= 1
    up += 0xFFF
    bits += up
    bits &= np.uint32(0xFFFFE000)
    return values
