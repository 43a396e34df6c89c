"""``model.onnx.data``: planned first, then written in row blocks, so that memory stays bounded.

Every part of every tensor starts at a multiple of 64 bytes (a cache line), in decoder order; constants of the
graph (rope tables) follow. Gaps are zero.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgeslm import _native
from edgeslm.converters.policy import Options, tensor_formats
from edgeslm.errors import CheckpointError
from edgeslm.formats import FORMATS, Parts
from edgeslm.formats.base import F32Array
from edgeslm.manifest import PartEntry, TensorEntry
from edgeslm.spec import DecoderSpec, tensor_shapes
from edgeslm.weights import WeightSource, row_blocks

ALIGNMENT = 64
BLOCK_BYTES = 8 << 20  # float32 bytes of a block; a worker holds a few times as much while it encodes
WORKERS = 2

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Constant:
    """A float32 array that the graph needs and no tensor table lists."""

    values: F32Array
    part: PartEntry


@dataclass(frozen=True)
class DataPlan:
    """Where everything will lie in the data file."""

    file: str
    bytes: int
    tensors: dict[str, TensorEntry]
    constants: dict[str, Constant]


class _Cursor:
    """Hands out aligned places one after the other."""

    def __init__(self) -> None:
        self.end = 0

    def place(self, size: int) -> PartEntry:
        offset = -(-self.end // ALIGNMENT) * ALIGNMENT
        self.end = offset + size
        return PartEntry(offset, size)


def plan_data(spec: DecoderSpec, options: Options, constants: Mapping[str, F32Array], file: str) -> DataPlan:
    """Lay out the data file; ``file`` is its path in the bundle."""
    cursor, shapes = _Cursor(), tensor_shapes(spec)
    tensors = {}
    for name, (kind, group_size) in tensor_formats(spec, options).items():
        layout = FORMATS[kind].layout(shapes[name], group_size)
        parts = {part: cursor.place(p.nbytes) for part, p in layout.items()}
        tensors[name] = TensorEntry(kind, shapes[name], group_size, file, parts)
    placed = {name: Constant(values, cursor.place(values.nbytes)) for name, values in constants.items()}
    return DataPlan(file, cursor.end, tensors, placed)


def write_data(path: Path, plan: DataPlan, source: WeightSource, progress: Progress) -> None:
    """Encode every tensor of ``source`` into a new file at ``path``.

    ``progress(done_bytes, total_bytes)`` is called from the calling thread. ``source`` is read from worker threads.

    Raises:
        CheckpointError: ``source`` lacks a tensor's shape, or its own complaints while reading.
        OSError: the file exists, or the disk is full.
    """
    for name, entry in plan.tensors.items():
        if source.shape(name) != entry.shape:
            raise CheckpointError(f"{name}: expected shape {entry.shape}, found {source.shape(name)}")
    with path.open("xb", buffering=0) as file:
        fd = file.fileno()
        os.ftruncate(fd, plan.bytes)  # gaps read as zeros
        for constant in plan.constants.values():
            write_at(fd, constant.values, constant.part.offset)
        done = sum(c.part.bytes for c in plan.constants.values())
        for written in _encode_all(fd, plan, source):
            done += written
            progress(done, plan.bytes)
    progress(plan.bytes, plan.bytes)


def _encode_all(fd: int, plan: DataPlan, source: WeightSource) -> Iterator[int]:
    """Bytes written by each block, in order."""

    def work(name: str, start: int, stop: int) -> int:
        entry = plan.tensors[name]
        parts = _encode(entry, source.rows(name, start, stop))
        for part, values in parts.items():
            place = entry.parts[part]
            write_at(fd, values, place.offset + start * (place.bytes // entry.shape[0]))
        return sum(values.nbytes for values in parts.values())

    return each_block({name: entry.shape for name, entry in plan.tensors.items()}, work)


def each_block(shapes: Mapping[str, tuple[int, ...]], work: Callable[[str, int, int], int]) -> Iterator[int]:
    """What ``work(name, start, stop)`` returns for every block of rows, in order.

    It runs in worker threads; at most two blocks per worker are under way.
    """
    with ThreadPoolExecutor(WORKERS, "edgeslm-encode") as pool:
        pending: deque[Future[int]] = deque()
        try:
            for name, shape in shapes.items():
                for start, stop in row_blocks(shape, BLOCK_BYTES):
                    if len(pending) == 2 * WORKERS:
                        yield pending.popleft().result()
                    pending.append(pool.submit(work, name, start, stop))
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _encode(entry: TensorEntry, rows: F32Array) -> Parts:
    if not FORMATS[entry.format].grouped:
        return FORMATS[entry.format].encode(rows, entry.group_size)
    data, scales = _native.quantize(
        entry.format, None, rows, entry.group_size
    )  # as the format encodes, many times faster
    return {"data": data, "scales": scales}


def write_at(fd: int, values: npt.NDArray[Any], offset: int) -> None:
    """All bytes of a contiguous array, at an offset of the file."""
    data = values.data.cast("B")
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
