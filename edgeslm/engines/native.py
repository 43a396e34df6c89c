"""The native engine: the decoder as a C program over the bundle's mapped weights."""

from __future__ import annotations

import mmap
import struct
import threading
from array import array
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, cast

from edgeslm import _native
from edgeslm.bundle import Bundle
from edgeslm.engines.program import Program, build_program
from edgeslm.engines.protocol import Arrays, Cache, GreedyBatch, Ids, Logits, Rows
from edgeslm.engines.session import Session
from edgeslm.engines.threads import resolve_threads
from edgeslm.errors import ArgumentError, BundleError, EngineError, ModelFormatError, SessionFileError
from edgeslm.formats import FORMATS
from edgeslm.lazy_numpy import np
from edgeslm.manifest import TensorEntry
from edgeslm.rope import uses_long
from edgeslm.spec import MAX_CONTEXT, DecoderSpec, Rope

KV_FORMATS = {"f16": "f16", "f32": "f32", "int8": "q8"}  # of native/, by the name of a kv_dtype
DEFAULT_KV_DTYPE = "f16"
WRITTEN = "written"  # beside the rows of a saved session: positions below it were written, so rings hold no older ones


class NativeEngine:
    """Runs a bundle's ONNX weights in place, without onnxruntime."""

    name = "native"

    def __init__(
        self,
        spec: DecoderSpec,
        model: _native.Model,
        threads: int,
        fingerprint: str,
        step_bytes: int,
        kv_type: str,
    ) -> None:
        """See :meth:`open`."""
        self.step_bytes = step_bytes
        self.spec, self.threads, self.isa, self.fingerprint = spec, threads, _native.isa(), fingerprint
        self.kv_type = kv_type
        self._model = model

    @classmethod
    def open(cls, bundle: Bundle, threads: int | None = None, kv_dtype: str | None = None) -> NativeEngine:
        """Map the weights of a bundle's "onnx" target.

        Args:
            bundle: an opened bundle; its files stay mapped until the engine is closed.
            threads: 1..256; None takes one for each core that can work for this process.
            kv_dtype: how sessions keep keys and values: "f16", "f32", or "int8" with a float32 scale per row and head;
                None: f16.

        Raises:
            ArgumentError: an impossible number of threads, or no such kv_dtype.
            BundleError: the bundle has no "onnx" target, or one without a tensor table.
            EngineError: not enough memory or threads, or EDGESLM_ISA names a set that cannot be used here.
        """
        tensors = bundle.target("onnx").tensors
        if not tensors:
            raise BundleError(f"{bundle.folder}: target 'onnx' has no tensor table; convert the model again")
        files = {name: bundle.map(name) for name in {t.file for t in tensors.values()}}
        engine = cls.from_tensors(bundle.spec, tensors, files, threads, bundle.fingerprint("onnx"), kv_dtype)
        if bundle.spec.tied:  # else an embedding's rows, wanted one at a time, would come 2 MB at a time
            want_huge_pages(files.values())
        whole = (t for name, t in tensors.items() if name != "embed" or bundle.spec.tied)  # else a row at a time
        map_pages_soon([_part(t, part, files) for t in whole for part in t.parts if part != "scales"])
        return engine

    @classmethod
    def from_tensors(
        cls,
        spec: DecoderSpec,
        tensors: dict[str, TensorEntry],
        files: dict[str, memoryview],
        threads: int | None = None,
        fingerprint: str = "",
        kv_dtype: str | None = None,
    ) -> NativeEngine:
        """An engine over tensors within ``files`` (name → bytes, kept alive and used in place)."""
        count, kv_type = resolve_threads(threads), DEFAULT_KV_DTYPE if kv_dtype is None else kv_dtype
        if kv_type not in KV_FORMATS:
            raise ArgumentError(f"kv_dtype: expected one of {', '.join(KV_FORMATS)}; found {kv_dtype!r}")
        program = build_program(spec, tensors)
        matrices = [_matrix(tensors[name], files) for name in program.matrices]
        vectors = [_vector(tensors[name], files) for name in program.vectors]
        model = _native.Model(
            program,
            spec.vocab_size,
            spec.context_length,
            matrices,
            vectors,
            [_rope(rope, spec.context_length) for rope in spec.ropes],
            count,
            KV_FORMATS[kv_type],
        )
        return cls(spec, model, count, fingerprint, _step_bytes(program, matrices, vectors), kv_type)

    def new_session(self) -> Session:
        """An empty session; sessions of several threads take turns on the model's threads."""
        return Session(self, lambda: NativeCache(_native.Session(self._model), self.kv_type))

    def forward_together(self, caches: Sequence[Cache], ids: Sequence[Ids], starts: Sequence[int]) -> Logits:
        sessions = [cache.session for cache in cast(Sequence[NativeCache], caches)]
        return _run(sessions, list(starts), [len(tokens) for tokens in ids], np.concatenate(ids), "last")

    def greedy(self, slots: int, ends: Collection[int]) -> GreedyBatch:
        return _native.Greedy(self._model, slots, array("i", sorted(ends)))

    def memory(self, tokens: int) -> tuple[int, int]:
        """Bytes of working memory, and of the cache of a session of ``tokens`` tokens; weights are the file's own."""
        return self._model.memory(tokens)

    def close(self) -> None:
        """Free the model once no run is under way; sessions become unusable."""
        self._model.close()


class NativeCache:
    """One sequence's cache, whose memory grows with the tokens held and is shared with its forks until written to."""

    def __init__(self, session: _native.Session, kv_type: str) -> None:
        self.session, self._kv_type = session, kv_type

    def forward(self, ids: Ids, start: int, rows: Rows) -> Logits:
        return _run([self.session], [start], [len(ids)], ids, rows)

    def rewindable_to(self, length: int) -> int:
        return self.session.rewindable_to

    def truncate(self, length: int) -> None:
        self.session.truncate(length)

    def fork(self) -> NativeCache:
        return NativeCache(self.session.fork(), self._kv_type)

    def export(self, length: int) -> Arrays:
        from edgeslm.engines.kv_arrays import layer_kinds, pack

        self.session.truncate(length)  # what a run that was interrupted has left behind goes
        high = self.session.high
        shapes = self._shapes(length, high)
        layers = [tuple(np.empty(s, dtype) for dtype, s in layer_kinds(self._kv_type, shape)) for shape in shapes]
        for layer, arrays in enumerate(layers):
            self.session.read(layer, list(arrays))
        return {WRITTEN: np.array(high, np.int64), **pack(layers)}

    def restore(self, arrays: Arrays, length: int) -> None:
        from edgeslm.engines.kv_arrays import unpack

        written = arrays.pop(WRITTEN, None)
        if written is None or written.shape != () or written.dtype != np.int64:
            raise SessionFileError(f"saved session: expected a number {WRITTEN!r}")
        try:
            shapes = self._shapes(length, int(written))
        except ModelFormatError:
            raise SessionFileError(f"saved session: {written} written of {length} tokens: impossible here") from None
        layers = unpack(arrays, shapes, self._kv_type)
        self.session.restore(length, int(written))
        for layer, rows in enumerate(layers):
            self.session.write(layer, list(rows))

    def _shapes(self, length: int, high: int) -> list[tuple[int, int, int]]:
        return [self.session.shape(layer, length, high) for layer in range(len(self.session.model.layers))]

    def cancel(self, on: bool) -> None:
        self.session.cancel(on)

    def close(self) -> None:
        self.session.close()


def want_huge_pages(files: Iterable[memoryview]) -> None:
    """Have what the system is yet to read of mapped files read into huge pages, where it has such."""
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    for file in files:
        if advice is not None and isinstance(file.obj, mmap.mmap):
            with suppress(OSError):  # a kernel without
                file.obj.madvise(advice)


def map_pages_soon(areas: list[memoryview]) -> None:
    """Have the pages of mapped files mapped in the background; without a thread for it, each is when it is used."""
    with suppress(RuntimeError):
        threading.Thread(target=_native.map_pages, args=(areas,), name="edgeslm-pages", daemon=True).start()


def _run(sessions: list[_native.Session], starts: list[int], counts: list[int], ids: Ids, rows: Rows) -> Logits:
    shape = (len(ids) if rows == "all" else len(sessions), sessions[0].model.vocab)
    try:
        logits = np.empty(shape, np.float32)
    except MemoryError:
        raise EngineError(f"not enough memory for {shape} logits: ask for fewer rows at once") from None
    _native.run(sessions, starts, counts, ids, rows == "all", logits)
    return logits


def _part(entry: TensorEntry, part: str, files: dict[str, memoryview]) -> memoryview:
    at = entry.parts[part]
    return files[entry.file][at.offset : at.offset + at.bytes]


def _matrix(entry: TensorEntry, files: dict[str, memoryview]) -> _native.Weight:
    scales = _part(entry, "scales_f16", files).cast("H") if FORMATS[entry.format].grouped else None
    n, k = entry.shape
    return entry.format, n, k, entry.group_size, _part(entry, "data", files), scales, 2.0**entry.scale_exponent


def _vector(entry: TensorEntry, files: dict[str, memoryview]) -> memoryview[Any]:
    """A norm's weight or a bias as float32; only one stored as float16 is copied (it is small)."""
    data = _part(entry, "data", files)
    return data.cast("f") if entry.format == "f32" else _floats(struct.unpack(f"<{entry.shape[0]}e", data))


def _floats(values: Sequence[float]) -> memoryview[Any]:
    return memoryview(array("f", values))


def _step_bytes(program: Program, matrices: Sequence[_native.Weight], vectors: Sequence[memoryview[Any]]) -> int:
    """What one row reads: matrices of linears whole, a row of the embedding, and all vectors."""
    sizes = [data.nbytes + (0 if scales is None else scales.nbytes) for *_, data, scales, _ in matrices]
    linears = sum(sizes[w] for op in program.ops if op.kind == "linear" for w in op.weights)
    rows = sum(sizes[w] // matrices[w][1] for op in program.ops if op.kind == "embed" for w in op.weights)
    return linears + rows + sum(vector.nbytes for vector in vectors)


def _rope(rope: Rope, context_length: int) -> _native.RopeTable:
    long = uses_long(rope, context_length)
    frequencies, scale = (rope.long_inv_freq, rope.long_scale) if long else (rope.inv_freq, rope.scale)
    period = min(rope.q_period, MAX_CONTEXT + 1)  # beyond every position; C has 63 bits
    return _floats(frequencies), scale, rope.q_beta, period
