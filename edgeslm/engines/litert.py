"""The engine over Google's LiteRT: a ``.tflite`` file of prefill signatures and ``decode``, run on XNNPACK."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeslm.bundle import Bundle
from edgeslm.engines.kv_arrays import Layer, pack, unpack
from edgeslm.engines.litert_runtime import Runtime, read, write
from edgeslm.engines.protocol import Arrays, Logits, Rows, one_by_one
from edgeslm.engines.session import Session
from edgeslm.engines.threads import resolve_threads
from edgeslm.errors import CancelledError, EngineError, RewindError
from edgeslm.spec import DecoderSpec
from edgeslm.tflite.check import (
    DECODE,
    LOGITS,
    MASK,
    POSITIONS,
    PREFILL,
    TOKENS,
    CacheLayout,
    Interface,
    cache_names,
    cache_shapes,
    check_tflite,
)

TARGET, ROLE = "litert", "model"
MASKED = np.float32(-45824.0)  # as the signatures' mask has it; exp() of it is 0
CHUNK_TOKENS = 128  # of a prompt, per run: a run keeps Python from anything else, Ctrl-C included


class LitertEngine:
    """A bundle's LiteRT target on the CPU. Sessions take turns; it may be used from several threads."""

    name = "litert"
    isa = ""
    kv_type = "f32"
    step_bytes = None

    def __init__(
        self, spec: DecoderSpec, runtime: Runtime, interface: Interface, threads: int, fingerprint: str = ""
    ) -> None:
        """See :meth:`open`."""
        self.spec, self.threads, self.fingerprint = spec, threads, fingerprint
        self.caches = interface.caches
        self.prefill = tuple(n for n in interface.prefill if n <= CHUNK_TOKENS)
        self._runtime: Runtime | None = runtime
        self._calls: dict[int, _Call] = {}
        self._running = threading.Lock()

    @classmethod
    def open(cls, bundle: Bundle, threads: int | None = None) -> LitertEngine:
        """Open the bundle's target "litert"; ``threads`` defaults to the usable CPUs.

        The file is checked to be the decoder that the bundle describes, and sound, before LiteRT sees it.

        Raises:
            BundleError: the bundle has no such target, or its file is damaged or hostile.
            MissingExtraError: ai-edge-litert is not installed.
            ArgumentError: an impossible number of threads.
            EngineError: LiteRT refuses the file.
        """
        path, count = bundle.file(TARGET, ROLE), resolve_threads(threads)
        name = bundle.target(TARGET).files[ROLE]
        interface = check_tflite(np.frombuffer(bundle.map(name), np.uint8), bundle.spec, name)
        return cls(bundle.spec, Runtime(path, count), interface, count, bundle.fingerprint(TARGET))

    def new_session(self) -> Session:
        self._open()
        return Session(self, lambda: LitertCache(self))

    forward_together = staticmethod(one_by_one)

    def close(self) -> None:
        with self._running:
            runtime, self._runtime, self._calls = self._runtime, None, {}
            if runtime is not None:
                runtime.close()

    def make_buffers(self) -> dict[str, Any]:
        """Caches of a new sequence, by the names of inputs and outputs; all zero: masked rows must be finite."""
        buffers = {}
        with self._running, _enough_memory(self.spec):
            for layer, layout in enumerate(self.caches):
                for name, shape in zip(cache_names(layer), cache_shapes(layout), strict=True):
                    buffers[name] = self._open().buffer(DECODE, name)
                    write(buffers[name], np.zeros(shape, np.float32))
        return buffers

    def run(self, ids: npt.NDArray[np.int32], start: int, tokens: int, buffers: dict[str, Any]) -> Logits | None:
        """Append ids behind ``start`` tokens by the signature for ``tokens``; logits (1, vocab) if that is 1."""
        with self._running, _enough_memory(self.spec):
            if tokens not in self._calls:
                self._calls[tokens] = _Call(self._open(), self.spec, tokens)
            return self._calls[tokens].run(self._open(), ids, start, buffers)

    def _open(self) -> Runtime:
        if self._runtime is None:
            raise EngineError("the model has been closed: load it again")
        return self._runtime


class _Call:
    """One signature with the buffers of its other inputs."""

    def __init__(self, runtime: Runtime, spec: DecoderSpec, tokens: int) -> None:
        self._signature = DECODE if tokens == 1 else f"{PREFILL}{tokens}"
        self._tokens, self._spec = tokens, spec
        self._inputs = {name: runtime.buffer(self._signature, name) for name in (TOKENS, POSITIONS, MASK)}
        self._outputs = {LOGITS: runtime.output(self._signature, LOGITS)} if tokens == 1 else {}

    def run(self, runtime: Runtime, ids: npt.NDArray[np.int32], start: int, buffers: dict[str, Any]) -> Logits | None:
        """Padding stands behind the ids, at position 0, and sees nothing."""
        tokens, positions = np.zeros((2, self._tokens), np.int32)
        tokens[: len(ids)] = ids
        positions[: len(ids)] = np.arange(start, start + len(ids))
        seen = np.where(np.arange(self._tokens) < len(ids), positions, -1)
        mask = np.where(np.arange(self._spec.context_length) <= seen[:, None], np.float32(0), MASKED)
        for name, values in ((TOKENS, tokens[None]), (POSITIONS, positions), (MASK, mask[None, None])):
            write(self._inputs[name], values)
        runtime.run(self._signature, {**self._inputs, **buffers}, {**self._outputs, **buffers})
        return read(self._outputs[LOGITS], (1, self._spec.vocab_size)) if self._outputs else None


class LitertCache:
    """Buffers that runs update in place. Layers that slide keep their last rows, the newest at the end."""

    def __init__(self, engine: LitertEngine) -> None:
        self._engine = engine
        self._buffers: dict[str, Any] = {}  # made when first needed
        self._held = 0  # tokens
        self._torn = False  # a run may have updated some layers and not others
        self._cancelled = False

    def forward(self, ids: npt.NDArray[np.int32], start: int, rows: Rows) -> Logits:
        self._buffers = self._buffers or self._engine.make_buffers()
        if start and start < self.rewindable_to(start):  # an interrupted cut
            raise RewindError(f"the caches no longer hold {start} tokens: truncate to 0 and run the tokens again")
        self.truncate(start)
        if rows == "all":
            return np.concatenate([self._decode(ids[i : i + 1]) for i in range(len(ids))])
        context = self._engine.spec.context_length
        for count, tokens in prefill_plan(len(ids) - 1, start, self._engine.prefill, context):
            self._run(ids[:count], tokens)
            ids = ids[count:]
        for i in range(len(ids) - 1):
            self._decode(ids[i : i + 1])
        return self._decode(ids[-1:])

    def _decode(self, ids: npt.NDArray[np.int32]) -> Logits:
        logits = self._run(ids, 1)
        assert logits is not None
        return logits

    def _run(self, ids: npt.NDArray[np.int32], tokens: int) -> Logits | None:
        if self._cancelled:
            raise CancelledError
        self._torn = True
        logits = self._engine.run(ids, self._held, tokens, self._buffers)
        self._held, self._torn = self._held + len(ids), False
        return logits

    def rewindable_to(self, length: int) -> int:
        windows = [
            (block.mixer.window, layout.rows)
            for block, layout in zip(self._engine.spec.layers, self._engine.caches, strict=True)
            if layout.slides
        ]
        if self._torn and windows:
            return length + 1
        # Going on from n tokens needs those from n - window + 1 on; the last ``rows`` are there.
        return max([self._held - rows + window - 1 for window, rows in windows if self._held > rows], default=1)

    def truncate(self, length: int) -> None:
        """Rows that slide move to where they would have been."""
        torn = self._torn and length > 0
        if 0 < length < self._held:
            self._torn = True
            for name, axis, layout in self._sliding():
                rows = read(self._buffers[name], cache_shapes(layout)[axis - 2])
                write(self._buffers[name], np.roll(rows, self._held - length, axis))
        self._held, self._torn = min(length, self._held), torn

    def _sliding(self) -> list[tuple[str, int, CacheLayout]]:
        """Name, axis of the rows and layout of each buffer that slides."""
        layouts = enumerate(self._engine.caches)
        return [(n, axis, c) for i, c in layouts if c.slides for axis, n in enumerate(cache_names(i), 2)]

    def fork(self) -> LitertCache:
        other = LitertCache(self._engine)
        if self._held:
            other._fill(self._rows(self._held))
            other._held, other._torn = self._held, self._torn
        return other

    def export(self, length: int) -> Arrays:
        self.truncate(length)
        return pack(self._rows(length))

    def restore(self, arrays: Arrays, length: int) -> None:
        shapes = [(c.heads, _kept(c, length), c.width) for c in self._engine.caches]
        self._fill(unpack(arrays, shapes))
        self._held = length

    def _rows(self, length: int) -> list[Layer]:
        """Of each layer what is kept of ``length`` tokens, oldest first: (heads, rows, width)."""
        return [self._layer_rows(i, c, length) for i, c in enumerate(self._engine.caches)]

    def _layer_rows(self, layer: int, layout: CacheLayout, length: int) -> Layer:
        place = _place(layout, length)
        keys, values = (
            read(self._buffers[name], shape)[0]
            for name, shape in zip(cache_names(layer), cache_shapes(layout), strict=True)
        )
        return keys[:, place], values[:, :, place].swapaxes(1, 2)

    def _fill(self, layers: list[Layer]) -> None:
        """The opposite of :meth:`_rows`, into new buffers."""
        self._buffers = self._engine.make_buffers()
        for layer, (layout, (keys, values)) in enumerate(zip(self._engine.caches, layers, strict=True)):
            place = _place(layout, keys.shape[1])
            with _enough_memory(self._engine.spec):
                k, v = (np.zeros(shape, np.float32) for shape in cache_shapes(layout))
            k[0, :, place], v[0, :, :, place] = keys, values.swapaxes(1, 2)
            for name, full in zip(cache_names(layer), (k, v), strict=True):
                write(self._buffers[name], full)

    def cancel(self, on: bool) -> None:
        self._cancelled = on

    def close(self) -> None:
        self._buffers = {}


def prefill_plan(count: int, start: int, sizes: tuple[int, ...], context: int) -> list[tuple[int, int]]:
    """(ids, tokens of the signature) of the runs that take ``count`` ids behind ``start``; too few are left to decode.

    A run is padded if at least half of it is used and it ends inside the context.
    """
    plan = []
    while count > 0:
        padded = [n for n in sizes if count < n <= 2 * count and start + n <= context]
        whole = [n for n in sizes if n <= count]
        if not padded and not whole:
            break
        tokens = min(padded) if padded else max(whole)
        used = min(tokens, count)
        plan.append((used, tokens))
        start, count = start + used, count - used
    return plan


@contextmanager
def _enough_memory(spec: DecoderSpec) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise EngineError(
            f"no memory for a cache of {spec.context_length} tokens: convert with a smaller --context"
        ) from None


def _kept(layout: CacheLayout, length: int) -> int:
    """Rows that a layer keeps of ``length`` tokens."""
    return min(length, layout.rows)


def _place(layout: CacheLayout, length: int) -> slice:
    """Where they lie."""
    kept = _kept(layout, length)
    return slice(layout.rows - kept, None) if layout.slides else slice(0, kept)
