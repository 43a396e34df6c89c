"""``model.onnx.data``: planned first, then written in row blocks, so that memory stays bounded.

Every part of every tensor starts at a multiple of 64 bytes (a cache line), in decoder order; constants of the
graph (rope tables) follow. Gaps are zero. Scales are halved when a whole tensor's are known.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edgeslm.converters.encode import encode
from edgeslm.converters.policy import Options, tensor_formats
from edgeslm.errors import CheckpointError
from edgeslm.formats import FORMATS, halve_scales, scale_exponent
from edgeslm.formats.base import F32Array
from edgeslm.manifest import PartEntry, TensorEntry
from edgeslm.spec import DecoderSpec, tensor_shapes
from edgeslm.weights import WeightSource, row_blocks

ALIGNMENT = 64
BLOCK_BYTES = 8 << 20  # float32 bytes of a block; a worker holds a few times as much while it encodes
WORKERS = 2

Progress = Callable[[int, int], None]
Result = TypeVar("Result")


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


def write_data(path: Path, plan: DataPlan, source: WeightSource, progress: Progress) -> dict[str, TensorEntry]:
    """Encode every tensor of ``source`` into a new file at ``path``.

    Returns the tensors as planned, with the exponents of their scales.

    ``progress(done_bytes, total_bytes)`` is called from the calling thread. ``source`` is read from worker threads.

    Raises:
        CheckpointError: ``source`` lacks a tensor's shape, or its own complaints while reading.
        OSError: the file exists, or the disk is full.
    """
    for name, entry in plan.tensors.items():
        if source.shape(name) != entry.shape:
            raise CheckpointError(f"{name}: expected shape {entry.shape}, found {source.shape(name)}")
    with path.open("x+b", buffering=0) as file:
        fd = file.fileno()
        os.ftruncate(fd, plan.bytes)  # gaps read as zeros
        for constant in plan.constants.values():
            write_at(fd, constant.values, constant.part.offset)
        done = sum(c.part.bytes for c in plan.constants.values())
        peaks = dict.fromkeys(plan.tensors, 0.0)
        for name, written, peak in _encode_all(fd, plan, source):
            peaks[name] = max(peaks[name], peak)
            done += written
            progress(done, plan.bytes)
        tensors = {name: _with_exponent(entry, peaks[name]) for name, entry in plan.tensors.items()}
        for entry in tensors.values():
            _halve_scales(fd, entry)
    progress(plan.bytes, plan.bytes)
    return tensors


def _encode_all(fd: int, plan: DataPlan, source: WeightSource) -> Iterator[tuple[str, int, float]]:
    """Of each block, in order: the tensor, bytes written, and the largest magnitude of its scales (0: none)."""

    def work(name: str, start: int, stop: int) -> tuple[str, int, float]:
        entry = plan.tensors[name]
        parts = encode(entry.format, source.rows(name, start, stop), entry.group_size)
        for part, values in parts.items():
            write_at(fd, values, _row_offset(entry, part, start))
        peak = float(np.abs(parts["scales"]).max()) if "scales" in parts else 0.0
        return name, sum(values.nbytes for values in parts.values()), peak

    return each_block({name: entry.shape for name, entry in plan.tensors.items()}, work)


def _row_offset(entry: TensorEntry, part: str, row: int) -> int:
    """Where in the file a row of a part begins."""
    place = entry.parts[part]
    return place.offset + row * (place.bytes // entry.shape[0])


def _with_exponent(entry: TensorEntry, peak: float) -> TensorEntry:
    return entry._replace(scale_exponent=scale_exponent(peak)) if FORMATS[entry.format].grouped else entry


def _halve_scales(fd: int, entry: TensorEntry) -> None:
    """Writes the half-precision copy of a tensor's scales, and the scales themselves where they are not the same."""
    if not FORMATS[entry.format].grouped:
        return
    for start, stop in row_blocks(entry.shape, BLOCK_BYTES):
        at, end = (_row_offset(entry, "scales", row) for row in (start, stop))
        scales = np.frombuffer(os.pread(fd, end - at, at), np.float32)
        halves, rounded = halve_scales(scales, entry.scale_exponent)
        write_at(fd, halves, _row_offset(entry, "scales_f16", start))
        if not np.array_equal(scales, rounded):
            write_at(fd, rounded, at)


def each_block(shapes: Mapping[str, tuple[int, ...]], work: Callable[[str, int, int], Result]) -> Iterator[Result]:
    """What ``work(name, start, stop)`` returns for every block of rows, in order.

    It runs in worker threads; at most two blocks per worker are under way.
    """
    with ThreadPoolExecutor(WORKERS, "edgeslm-encode") as pool:
        pending: deque[Future[Result]] = deque()
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


def write_at(fd: int, values: npt.NDArray[Any], offset: int) -> None:
    """All bytes of a contiguous array, at an offset of the file."""
    data = values.data.cast("B")
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
