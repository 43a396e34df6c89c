"""Is a ``.litertlm`` file sound, and made of this bundle's model and tokenizer? LiteRT-LM reads offsets as they stand.

    magic       8 bytes
    version     3 x uint32
    unused      4 bytes
    end         uint64, of the header
    header      a flatbuffer: what was written by whom, and the sections' places and kinds
    sections    each from a multiple of 16 KiB on

Schema: LiteRT-LM, litertlm_header_schema.fbs.
"""

from __future__ import annotations

import zlib

import numpy as np

from edgeslm.errors import BundleError
from edgeslm.spec import DecoderSpec
from edgeslm.tflite.flatbuffer import Bytes, FlatBuffer, Tables
from edgeslm.tflite.metadata import check_metadata

MAGIC, MAJOR_VERSION = b"LITERTLM", 1
HEADER, ALIGNMENT = 32, 16 << 10
MAX_HEADER, MAX_SECTIONS, MAX_METADATA = 1 << 20, 16, 1 << 20
COMPARED = 64 << 20  # bytes at a time
_MODEL, _METADATA, _TOKENIZER = 3, 5, 6  # AnySectionDataType
_STRING = 9  # VData


def check_litertlm(data: Bytes, name: str, spec: DecoderSpec, model: Bytes, tokenizer: bytes) -> None:
    """Check the bytes of a file against the bundle that it belongs to: its ``.tflite`` file and ``tokenizer.json``.

    Raises:
        BundleError: the file is damaged, hostile, or of another bundle.
    """
    file = FlatBuffer(data, name)
    sections = _sections(file)
    expected = {_MODEL, _METADATA, _TOKENIZER}
    file.need(set(sections) == expected, f"sections of kinds {sorted(sections)}; expected {sorted(expected)}")
    file.need(_equal(sections[_MODEL], model), "its model is not the bundle's .tflite file")
    file.need(_inflated(sections[_TOKENIZER], len(tokenizer)) == tokenizer, "its tokenizer is not the bundle's")
    file.need(len(sections[_METADATA]) <= MAX_METADATA, f"metadata of {len(sections[_METADATA])} bytes")
    try:
        check_metadata(sections[_METADATA].tobytes(), spec)
    except ValueError as problem:
        raise BundleError(f"{name}: metadata: {problem}: convert the model again") from None


def _sections(file: FlatBuffer) -> dict[int, Bytes]:
    """By kind."""
    start = file.data[:HEADER].tobytes()
    file.need(start[:8] == MAGIC, f"expected a file that starts with {MAGIC!r}, found {start[:8]!r}")
    version, end = (int.from_bytes(start[a:b], "little") for a, b in ((8, 12), (24, 32)))
    file.need(version == MAJOR_VERSION, f"format version {version}; expected {MAJOR_VERSION}")
    file.need(HEADER < end <= min(file.size, MAX_HEADER), f"a header up to byte {end} of {file.size}")
    root = FlatBuffer(file.data[HEADER:end], file.name).root().only((0, 1))
    _check_pairs(root.tables(0).only((0,)).vector(0, MAX_SECTIONS))
    tables = root.tables(1).only((0,)).vector(0, MAX_SECTIONS).only((0, 1, 2, 3))
    for row in range(len(tables)):
        _check_pairs(tables.at_index(row).vector(0, MAX_SECTIONS))
    places = (tables.number(field, size).tolist() for field, size in ((1, 8), (2, 8), (3, 1)))
    sections: dict[int, Bytes] = {}
    for begin, stop, kind in zip(*places, strict=True):
        good = end <= begin < stop <= file.size and begin % ALIGNMENT == 0 and kind not in sections
        file.need(good, f"a section of kind {kind} at bytes {begin} to {stop}")
        sections[kind], end = file.data[begin:stop], stop
    return sections


def _check_pairs(tables: Tables) -> None:
    """Keys and values, all of them texts."""
    if len(tables):
        tables.only((0, 1, 2)).check_names(0)
        tables.file.need((tables.number(1, 1) == _STRING).all(), "a value that is no text")
        tables.tables(2).only((0,)).check_names(0)


def _equal(a: Bytes, b: Bytes) -> bool:
    starts = range(0, len(a), COMPARED)
    return len(a) == len(b) and all(np.array_equal(a[i : i + COMPARED], b[i : i + COMPARED]) for i in starts)


def _inflated(section: Bytes, size: int) -> bytes:
    """The content of a compressed section, if it is of this size; else nothing."""
    if int.from_bytes(section[:8].tobytes(), "little") != size:
        return b""
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(section[8:].tobytes(), size + 1)
    except zlib.error:
        return b""
    return content if inflate.eof and not inflate.unused_data else b""
