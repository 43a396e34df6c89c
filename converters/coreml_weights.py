"""``weight.bin`` of a Core ML package: planned first, then written in row blocks, so that memory stays bounded.

A header of 64 bytes (count of blobs, version 2), then per blob a record of 64 bytes and its data, each at a multiple of
64 bytes:

    u32 0xDEADBEEF   u32 type   u64 bytes of data   u64 offset of data   u64 unused bits at its end   32 bytes 0

A model names a blob by the offset of its record. Integers are signed; int4 has element 2j in the low nibble of byte j.
Scales are positive: Apple's compiler refuses others, at least in its operations of the same kind.
Format: apple/coremltools, mlmodel/src/MILBlob/Blob/StorageFormat.hpp.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeslm.converters.data_file import each_block, write_at
from edgeslm.converters.encode import encode as encode_rows
from edgeslm.converters.policy import Options, largest_group, tensor_formats
from edgeslm.converters.signed_int4 import pack_int4, quantize_int4
from edgeslm.errors import CheckpointError, UnsupportedModelError
from edgeslm.formats import FORMATS, Parts
from edgeslm.formats.base import F32Array
from edgeslm.spec import DecoderSpec, tensor_shapes
from edgeslm.weights import WeightSource

ALIGNMENT = 64
_SENTINEL = 0xDEADBEEF
BLOB_TYPES = {"float16": 1, "float32": 2, "int8": 4, "int4": 8}  # BlobDataType
_BITS = {"float16": 16, "float32": 32, "int8": 8, "int4": 4}
_DENSE = {"f16": "float16", "f32": "float32"}
_INTEGERS = {"q8": "int8", "q4": "int4"}
SMALLEST_SCALE = np.float32(2.0**-24)  # float16's smallest number

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Blob:
    """One array in the file."""

    dtype: str
    shape: tuple[int, ...]
    record: int  # offset of its record, which is what a model names it by

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * _BITS[self.dtype] // 8

    @property
    def data(self) -> int:
        """Offset of its data."""
        return self.record + ALIGNMENT


@dataclass(frozen=True)
class StoredTensor:
    """One weight: ``data``, and for integers ``scale`` (outputs, inputs / group_size)."""

    format: str
    group_size: int  # inputs that share a scale, all of them for a scale per channel; 0: not quantised
    blobs: dict[str, Blob]


@dataclass(frozen=True)
class WeightPlan:
    """Where everything will lie in the file."""

    bytes: int
    tensors: dict[str, StoredTensor]
    constants: dict[str, tuple[Blob, F32Array]]

    def blobs(self) -> list[Blob]:
        """In order of their offsets."""
        of_tensors = [blob for tensor in self.tensors.values() for blob in tensor.blobs.values()]
        return of_tensors + [blob for blob, _ in self.constants.values()]


def stored_formats(spec: DecoderSpec, options: Options) -> dict[str, tuple[str, int]]:
    """Canonical name → (format, group size), in decoder order.

    Biases take the type that linears compute in; norms are computed in float32.

    Raises:
        UnsupportedModelError: int4 for rows of an odd length, which would end within a byte.
    """
    shapes, formats = tensor_shapes(spec), {}
    for name, (kind, asked) in tensor_formats(spec, options).items():
        if kind not in _INTEGERS:
            formats[name] = (compute_format(options) if name.endswith(".bias") else kind, 0)
            continue
        inputs = shapes[name][1]
        if kind == "q4" and inputs % 2:
            raise UnsupportedModelError(f"{name}: rows of {inputs} weights have no int4 form in Core ML; choose int8")
        formats[name] = (kind, largest_group(inputs, asked) or inputs)
    return formats


def compute_format(options: Options) -> str:
    """The format of what linears read and write: only unquantised models compute in float32 throughout."""
    return "f32" if options.quantize == "none" else "f16"


def plan_weights(spec: DecoderSpec, options: Options, constants: Mapping[str, F32Array]) -> WeightPlan:
    """Lay out the file; ``constants`` are float32 arrays that the graph reads besides the weights."""
    shapes, end = tensor_shapes(spec), ALIGNMENT

    def place(dtype: str, shape: tuple[int, ...]) -> Blob:
        nonlocal end
        blob = Blob(dtype, shape, -(-end // ALIGNMENT) * ALIGNMENT)
        end = blob.data + blob.bytes
        return blob

    tensors = {}
    for name, (kind, group) in stored_formats(spec, options).items():
        shape = shapes[name]
        blobs = {"data": place(_INTEGERS.get(kind) or _DENSE[kind], shape)}
        if group:
            blobs["scale"] = place("float16", (shape[0], shape[1] // group))
        tensors[name] = StoredTensor(kind, group, blobs)
    placed = {name: (place("float32", values.shape), values) for name, values in constants.items()}
    return WeightPlan(end, tensors, placed)


def write_weights(path: Path, plan: WeightPlan, source: WeightSource, progress: Progress) -> None:
    """Encode every tensor of ``source`` into a new file at ``path``.

    ``progress(done_bytes, total_bytes)`` is called from the calling thread. ``source`` is read from worker threads.

    Raises:
        CheckpointError: ``source`` lacks a tensor's shape, or its own complaints while reading.
        OSError: the file exists, or the disk is full.
    """
    shapes = {name: tensor.blobs["data"].shape for name, tensor in plan.tensors.items()}
    for name, shape in shapes.items():
        if source.shape(name) != shape:
            raise CheckpointError(f"{name}: expected shape {shape}, found {source.shape(name)}")
    with path.open("xb", buffering=0) as file:
        fd = file.fileno()
        os.ftruncate(fd, plan.bytes)  # gaps read as zeros
        _write_records(fd, plan)
        done = 0
        for blob, values in plan.constants.values():
            write_at(fd, values, blob.data)
            done += blob.bytes

        def work(name: str, start: int, stop: int) -> int:
            tensor, written = plan.tensors[name], 0
            for part, values in encode(tensor, source.rows(name, start, stop)).items():
                blob = tensor.blobs[part]
                write_at(fd, values, blob.data + start * (blob.bytes // blob.shape[0]))
                written += values.nbytes
            return written

        for written in each_block(shapes, work):
            done += written
            progress(done, plan.bytes)
    progress(plan.bytes, plan.bytes)


def _write_records(fd: int, plan: WeightPlan) -> None:
    blobs = plan.blobs()
    write_at(fd, np.frombuffer(struct.pack("<II", len(blobs), 2), np.uint8), 0)
    for blob in blobs:
        record = struct.pack("<IIQQQ", _SENTINEL, BLOB_TYPES[blob.dtype], blob.bytes, blob.data, 0)
        write_at(fd, np.frombuffer(record, np.uint8), blob.record)


def encode(tensor: StoredTensor, rows: F32Array) -> Parts:
    """Rows as they lie in the file."""
    group = tensor.group_size
    if not group:
        return FORMATS[tensor.format].encode(rows, 0)
    if tensor.format == "q4":
        q, scales = quantize_int4(rows.reshape(-1, group), _as_float16)
        return {"data": pack_int4(q), "scale": scales.astype(np.float16).reshape(len(rows), -1)}
    data, scales = encode_rows("q8", rows, group).values()
    return {"data": data ^ np.uint8(0x80), "scale": _as_float16(scales).astype(np.float16)}  # 128 is its zero


def _as_float16(scales: F32Array) -> F32Array:
    """As they are stored: above zero, also where all weights of a group are zero."""
    limits = (SMALLEST_SCALE, np.float32(np.finfo(np.float16).max))
    return np.clip(scales, *limits).astype(np.float16).astype(np.float32)
