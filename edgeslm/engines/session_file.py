"""A saved session: one format for all engines, read without trusting it.

    magic       8 bytes
    version     uint32
    header      its size, uint32
    digest      sha256 of all that follows
    header      JSON: engine, kv_type, fingerprint of the bundle; length; arrays: name → dtype, shape
    ids         int32 (length)
    arrays      one behind the other, in the header's order, each in the order of its elements

All numbers are little-endian; nothing lies between the parts or behind the last.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeslm.engines.protocol import Arrays
from edgeslm.errors import EngineError, SessionFileError
from edgeslm.files import replacing
from edgeslm.manifest import parse_json
from edgeslm.spec import DecoderSpec

MAGIC = b"edgeslm\x1a"
VERSION = 1
MAX_HEADER_BYTES = 1 << 20  # 1024 layers need about 130 KB
DTYPES: dict[str, np.dtype[Any]] = {
    "f32": np.dtype("<f4"),
    "f16": np.dtype("<f2"),
    "i8": np.dtype("i1"),
    "i64": np.dtype("<i8"),
}
_PREAMBLE = struct.Struct("<8sII32s")


class Identity(Protocol):
    """Whose session it is; engines are."""

    @property
    def name(self) -> str: ...
    @property
    def kv_type(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def spec(self) -> DecoderSpec: ...


@dataclass(frozen=True)
class SavedSession:
    """What a file holds besides its owner's identity."""

    ids: npt.NDArray[np.int32]
    arrays: Arrays


def write_session(path: Path, owner: Identity, session: SavedSession) -> None:
    """Write a file whole, under a temporary name that is then renamed.

    Raises:
        EngineError: the owner was not opened on a bundle.
        SessionFileError: the file cannot be written.
    """
    table = {name: {"dtype": _name(a.dtype), "shape": list(a.shape)} for name, a in session.arrays.items()}
    header = json.dumps({**_identity(owner), "length": len(session.ids), "arrays": table}).encode()
    parts: list[bytes | memoryview] = [header, *(_bytes(a) for a in (session.ids, *session.arrays.values()))]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    try:
        with replacing(path) as file:
            file.write(_PREAMBLE.pack(MAGIC, VERSION, len(header), digest.digest()))
            for part in parts:
                file.write(part)
    except (OSError, ValueError) as error:  # ValueError: a path that no system takes
        raise SessionFileError(f"{path}: cannot be written ({error})") from None


def read_session(path: Path, owner: Identity) -> SavedSession:
    """The session in a file; its arrays are read-only views of the mapped file, whatever their names and shapes.

    Raises:
        EngineError: the owner was not opened on a bundle.
        SessionFileError: not a saved session, damaged, or not the owner's.
    """
    identity = _identity(owner)
    raw = _map(path, _size_limit(owner.spec))
    magic, version, header_bytes, digest = _PREAMBLE.unpack(raw[: _PREAMBLE.size])
    if magic != MAGIC:
        raise SessionFileError(f"{path}: is not a saved session")
    if version != VERSION:
        raise SessionFileError(
            f"{path}: format version {version}; this edgeslm reads {VERSION}: save the session again"
        )
    if header_bytes > min(MAX_HEADER_BYTES, len(raw) - _PREAMBLE.size):
        raise _damaged(path, f"a header of {header_bytes} bytes")
    body = raw[_PREAMBLE.size :]
    if hashlib.sha256(body).digest() != digest:
        raise _damaged(path, "its content does not match its digest")
    header = parse_json(bytes(body[:header_bytes]), str(path), SessionFileError, MAX_HEADER_BYTES)
    return _unpack(path, header, body[header_bytes:], identity)


def _identity(owner: Identity) -> dict[str, str]:
    if not owner.fingerprint:
        raise EngineError("saved sessions belong to a bundle, and this engine was not opened on one")
    return {"engine": owner.name, "kv_type": owner.kv_type, "fingerprint": owner.fingerprint}


def _unpack(path: Path, header: object, payload: memoryview, owner: dict[str, str]) -> SavedSession:
    if not isinstance(header, dict) or set(header) != {*owner, "length", "arrays"}:
        raise _damaged(path, "its header has other keys")
    for key, expected in owner.items():
        if header[key] != expected:
            what = "bundle" if key == "fingerprint" else key
            raise SessionFileError(
                f"{path}: was saved by another {what} ({header[key]!r}, here {expected!r}): "
                "load it where it was saved, or run the tokens again"
            )
    table = {"ids": (np.dtype("<i4"), _shape(path, [header["length"]])), **_table(path, header["arrays"])}
    if sum(_size(dtype, shape) for dtype, shape in table.values()) != len(payload):
        raise _damaged(path, f"{len(payload)} bytes behind the header are not what it lists")
    arrays, at = {}, 0
    for name, (dtype, shape) in table.items():
        size = _size(dtype, shape)
        arrays[name] = np.frombuffer(payload[at : at + size], dtype).reshape(shape)
        at += size
    return SavedSession(arrays.pop("ids"), arrays)


def _table(path: Path, arrays: object) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    if not isinstance(arrays, dict) or "ids" in arrays:
        raise _damaged(path, "its header lists no arrays")
    table: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    for name, entry in arrays.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape"} or entry["dtype"] not in [*DTYPES]:
            raise _damaged(path, f"array {name!r}")
        table[name] = DTYPES[entry["dtype"]], _shape(path, entry["shape"])
    return table


def _shape(path: Path, shape: object) -> tuple[int, ...]:
    if not isinstance(shape, list) or len(shape) > 8 or not all(type(d) is int and 0 <= d < 1 << 48 for d in shape):
        raise _damaged(path, f"shape {shape!r}")
    return tuple(shape)


def _size(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return dtype.itemsize * math.prod(shape)


def _name(dtype: np.dtype[Any]) -> str:
    return next(name for name, known in DTYPES.items() if known == dtype)


def _bytes(array: npt.NDArray[Any]) -> bytes | memoryview:
    return memoryview(np.ascontiguousarray(array).data).cast("B") if array.size else b""


def _size_limit(spec: DecoderSpec) -> int:
    """Bytes of a file above which nothing is read: twice a full cache in float32."""
    token = sum(2 * 4 * a.n_kv_heads * a.head_dim for a in (block.mixer for block in spec.layers))
    return 2 * (4 + token) * spec.context_length + 2 * MAX_HEADER_BYTES


def _map(path: Path, limit: int) -> memoryview:
    if not path.is_file():
        raise SessionFileError(f"{path}: {'is not a regular file' if path.exists() else 'does not exist'}")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not _PREAMBLE.size <= size <= limit:
                raise SessionFileError(f"{path}: has {size} bytes, no size of a saved session of this model")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise SessionFileError(f"{path}: cannot be read ({error})") from None


def _damaged(path: Path, what: str) -> SessionFileError:
    return SessionFileError(f"{path}: is damaged ({what}): run the tokens again and save anew")
