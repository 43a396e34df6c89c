"""What running a decoder takes in memory, from its shape alone: no weight is needed, only how each is stored."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeslm.errors import EngineError
from edgeslm.formats import FORMATS, Part
from edgeslm.manifest import PartEntry, TensorEntry
from edgeslm.spec import DecoderSpec, tensor_shapes

Formats = Mapping[str, tuple[str, int]]  # tensor → format, group size
FILE = "weights"
ALIGNMENT = 64


@dataclass(frozen=True)
class Footprint:
    """Bytes in the native engine."""

    weights_bytes: int  # that it reads where they lie in the mapped file
    kv_bytes: int  # keys and values of one session, of the whole context
    scratch_bytes: int  # rows of one chunk and what the threads need
    kv_dtype: str  # how keys and values are kept

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.kv_bytes + self.scratch_bytes


def footprint(spec: DecoderSpec, formats: Formats, threads: int, kv_dtype: str | None = None) -> Footprint:
    """What the native engine takes for a session of the whole context; it plans a program of these shapes to tell.

    Raises:
        EngineError: the system has not even address space for its largest tensor.
    """
    from edgeslm.engines.native import NativeEngine

    engine = NativeEngine.from_tensors(spec, *_blank_tensors(spec, formats), threads, kv_dtype=kv_dtype)
    try:
        scratch, kv = engine.memory(spec.context_length)
    finally:
        engine.close()
    return Footprint(
        sum(weight_bytes(spec, formats).values()), kv, scratch + 4 * spec.vocab_size, engine.kv_type
    )  # and a row of logits


def weight_bytes(spec: DecoderSpec, formats: Formats) -> dict[str, int]:
    """Tensor → bytes that the native engine reads of it."""
    shapes = tensor_shapes(spec)
    return {name: sum(p.nbytes for p in native_parts(shapes[name], *formats[name]).values()) for name in shapes}


def native_parts(shape: tuple[int, ...], form: str, group_size: int) -> dict[str, Part]:
    """The parts of a stored tensor that the native engine reads: float32 scales are for others."""
    return {name: part for name, part in FORMATS[form].layout(shape, group_size).items() if name != "scales"}


def _blank_tensors(spec: DecoderSpec, formats: Formats) -> tuple[dict[str, TensorEntry], dict[str, memoryview]]:
    """Tensors that all lie in the same untouched pages: enough to plan with, not to run."""
    tensors = {name: _place(shape, *formats[name], start=0) for name, shape in tensor_shapes(spec).items()}
    size = max(_end(tensor) for tensor in tensors.values())
    try:
        return tensors, {FILE: memoryview(_blank_pages(size))}
    except (OSError, OverflowError, ValueError) as error:
        raise EngineError(f"no address space for {size} bytes ({error})") from None


def _blank_pages(size: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, size, access=mmap.ACCESS_READ)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)  # costs no commitment


def filled_tensors(spec: DecoderSpec, formats: Formats) -> tuple[dict[str, TensorEntry], dict[str, memoryview]]:
    """Tensors side by side in memory, of harmless small numbers in every format: enough to run, and to measure."""
    tensors: dict[str, TensorEntry] = {}
    end = 0
    for name, shape in tensor_shapes(spec).items():
        tensors[name] = _place(shape, *formats[name], start=end)
        end = _end(tensors[name])
    data = np.empty(end + ALIGNMENT, np.uint8)
    start = -data.ctypes.data % ALIGNMENT
    data[:] = 0x3C  # 0.011 as float32, 1.06 as float16
    return tensors, {FILE: data[start : start + end].data}


def _place(shape: tuple[int, ...], form: str, group_size: int, start: int) -> TensorEntry:
    parts: dict[str, PartEntry] = {}
    for name, part in native_parts(shape, form, group_size).items():
        parts[name] = PartEntry(start, part.nbytes)
        start += -(-part.nbytes // ALIGNMENT) * ALIGNMENT
    return TensorEntry(form, shape, group_size, FILE, parts)


def _end(tensor: TensorEntry) -> int:
    return max(-(-(p.offset + p.bytes) // ALIGNMENT) * ALIGNMENT for p in tensor.parts.values())
