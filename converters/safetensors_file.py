"""A safetensors file, mapped and read without trusting it.

The ``safetensors`` package copies whole tensors and has no bfloat16 in NumPy; the format is simple enough to
map (https://huggingface.co/docs/safetensors, "Format"): 8 bytes of header length, a JSON header, the data.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeslm.errors import CheckpointError
from edgeslm.manifest import parse_json

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library itself
_MAX_DIMENSIONS = 16

_ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as it lies in its file."""

    path: Path
    dtype: str  # safetensors' name: "BF16", "F16", "F32", …
    shape: tuple[int, ...]
    data: npt.NDArray[np.uint8]  # its bytes, mapped


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """Name → tensor of one file; the data stays on disk until it is touched.

    Raises:
        CheckpointError: the file is damaged, or lies about what it holds.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise CheckpointError(f"{path}: is empty; download it again") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if len(mapped) < 8:
        raise CheckpointError(f"{path}: {len(mapped)} bytes are no safetensors file; download it again")
    (header_bytes,) = struct.unpack("<Q", mapped[:8])
    if header_bytes > min(MAX_HEADER_BYTES, len(mapped) - 8):
        raise CheckpointError(
            f"{path}: a header of {header_bytes} bytes in a file of {len(mapped)}: damaged, or cut short; "
            "download it again"
        )
    header = parse_json(mapped[8 : 8 + header_bytes], f"{path}: header", CheckpointError, MAX_HEADER_BYTES)
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: header: expected an object, found {type(header).__name__}")
    header.pop("__metadata__", None)
    data = np.frombuffer(mapped, np.uint8, offset=8 + header_bytes)
    places = {name: _Place(f"{path}: {name}", entry) for name, entry in header.items()}
    _check_cover(path, places, data.size)
    return {name: StoredTensor(path, p.dtype, p.shape, data[p.begin : p.end]) for name, p in places.items()}


class _Place:
    """One entry of the header, checked by itself."""

    def __init__(self, where: str, entry: object) -> None:
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise CheckpointError(f"{where}: expected dtype, shape and data_offsets")
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in _ITEM_BYTES:
            raise CheckpointError(f"{where}: unknown dtype {entry['dtype']!r}")
        self.dtype = entry["dtype"]
        self.shape = _sizes(f"{where}: shape", entry["shape"])
        offsets = _sizes(f"{where}: data_offsets", entry["data_offsets"])
        if len(offsets) != 2:
            raise CheckpointError(f"{where}: data_offsets: expected begin and end, found {len(offsets)} numbers")
        self.begin, self.end = offsets
        expected = prod(self.shape) * _ITEM_BYTES[self.dtype]
        if self.end - self.begin != expected:
            raise CheckpointError(
                f"{where}: {self.dtype} {list(self.shape)} takes {expected} bytes, found {self.end - self.begin}"
            )


def _sizes(where: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > _MAX_DIMENSIONS:
        raise CheckpointError(f"{where}: expected a list of at most {_MAX_DIMENSIONS} sizes")
    if not all(type(n) is int and 0 <= n < 1 << 62 for n in value):
        raise CheckpointError(f"{where}: expected sizes, found {value}")
    return tuple(value)


def _check_cover(path: Path, places: dict[str, _Place], data_bytes: int) -> None:
    """The tensors must cover the data exactly: no overlap, no hole, nothing beyond the end."""
    end = 0
    for name, place in sorted(places.items(), key=lambda item: (item[1].begin, item[1].end)):
        if place.begin != end:
            raise CheckpointError(f"{path}: {name} begins at {place.begin}, expected {end}: overlap or hole")
        end = place.end
    if end != data_bytes:
        raise CheckpointError(
            f"{path}: the header describes {end} bytes of data, the file holds {data_bytes}: damaged, or cut "
            "short; download it again"
        )
