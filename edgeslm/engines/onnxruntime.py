"""The engine over stock onnxruntime: the bundle's two graphs, the cache in buffers shared between past and present."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeslm.bundle import Bundle
from edgeslm.engines.kv_arrays import Layer, pack, unpack
from edgeslm.engines.protocol import Arrays, Logits, Rows, one_by_one
from edgeslm.engines.session import Session
from edgeslm.engines.threads import resolve_threads
from edgeslm.errors import CancelledError, EngineError, MissingExtraError
from edgeslm.spec import DecoderSpec

TARGET = "onnx"
ROLES: dict[Rows, str] = {"last": "model", "all": "model_all"}
MINIMUM_VERSION = (1, 24)  # the first to refuse external data outside the graph's folder
WINDOW_VERSION = (1, 29)  # the first whose GroupQueryAttention keeps a bounded cache on the CPU
WINDOW_SLACK = 128  # rows of a bounded cache beyond the window: how seldom onnxruntime moves the window's rows
CHUNK_ROWS = 512  # of a long prompt, per run
CHUNK_SCORES = 16 << 20  # attention scores per run: heads x rows x length, float32 (64 MB)


class OnnxRuntimeEngine:
    """A bundle's ONNX target on the CPU. Safe to use from several threads, a session each."""

    name = "onnxruntime"
    isa = ""
    kv_type = "f32"
    step_bytes = None

    def __init__(self, spec: DecoderSpec, paths: dict[Rows, Path], threads: int, fingerprint: str = "") -> None:
        self.spec = spec
        self.fingerprint = fingerprint
        self.threads = threads
        self._paths = paths
        self._graphs: dict[Rows, _Graph] = {}
        self._opening = threading.Lock()
        self._closed = False
        self.graph("last")

    @classmethod
    def open(cls, bundle: Bundle, threads: int | None = None) -> OnnxRuntimeEngine:
        """Open the bundle's target "onnx"; ``threads`` defaults to the usable CPUs.

        Raises:
            BundleError: the bundle has no such target.
            MissingExtraError: onnxruntime is not installed.
            ArgumentError: an impossible number of threads.
            EngineError: onnxruntime refuses the graph, or the graph is not that of the bundle's decoder.
        """
        paths = {rows: bundle.file(TARGET, role) for rows, role in ROLES.items()}
        return cls(bundle.spec, paths, resolve_threads(threads), bundle.fingerprint(TARGET))

    def new_session(self) -> Session:
        return Session(self, lambda: OnnxRuntimeCache(self))

    forward_together = staticmethod(one_by_one)

    def close(self) -> None:
        self._closed = True
        self._graphs = {}

    def graph(self, rows: Rows) -> _Graph:
        """The graph that gives these rows, opened on first use."""
        with self._opening:
            if self._closed:
                raise EngineError("the model has been closed: load it again")
            if rows not in self._graphs:
                self._graphs[rows] = _Graph(self._paths[rows], self.spec, rows, self.threads)
            return self._graphs[rows]


class _Graph:
    """One opened ``.onnx`` file, checked to be the decoder that the bundle describes."""

    def __init__(self, path: Path, spec: DecoderSpec, rows: Rows, threads: int) -> None:
        windows = any(block.mixer.window for block in spec.blocks)
        self._ort = _import_onnxruntime(windows)
        options = self._ort.SessionOptions()
        options.log_severity_level = 4  # errors come as exceptions
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # it would keep a plan for every length of the attention mask
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with _translated(f"{path.name}: onnxruntime cannot open it"):
            self._session = self._ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.cache_shapes = _check_interface(self._session, spec, rows, path.name)

    def bind(self, cache: dict[str, Any]) -> Any:
        """A binding of the cache's buffers, each as both what was and what will be."""
        binding = self._session.io_binding()
        for layer_part, buffer in cache.items():
            binding.bind_ortvalue_input("past_key_values." + layer_part, buffer)
            binding.bind_ortvalue_output("present." + layer_part, buffer)
        return binding

    def run(self, binding: Any, inputs: dict[str, npt.NDArray[Any]], logits: Logits, options: Any) -> None:
        """One forward pass into ``logits`` and the bound cache; ``options.terminate`` stops it."""
        try:
            with _translated("onnxruntime failed"):
                for name, value in inputs.items():
                    binding.bind_cpu_input(name, value)
                binding.bind_ortvalue_output("logits", self.value(logits[None]))
                self._session.run_with_iobinding(binding, options)
        except EngineError:
            if options.terminate:
                raise CancelledError from None
            raise

    def run_options(self) -> Any:
        """What a cache's runs have in common."""
        return self._ort.RunOptions()

    def value(self, array: npt.NDArray[Any]) -> Any:
        """An onnxruntime value over the memory of ``array``."""
        return self._ort.OrtValue.ortvalue_from_numpy(array)


class OnnxRuntimeCache:
    """Buffers that onnxruntime reads and writes in place; those of layers with a window are bounded."""

    def __init__(self, engine: OnnxRuntimeEngine) -> None:
        graph = engine.graph("last")
        self._engine, self._spec = engine, engine.spec
        try:  # zeroed pages cost nothing until they are written
            self._buffers = [(np.zeros(s, np.float32), np.zeros(s, np.float32)) for s in graph.cache_shapes]
        except MemoryError:
            raise EngineError(
                f"no memory for a cache of {engine.spec.context_length} tokens: convert with a smaller --context"
            ) from None
        self._values = {name: graph.value(buffer) for name, buffer in pack(self._buffers).items()}
        self._bindings: dict[Rows, Any] = {}
        self._options = graph.run_options()
        self._longest = 0  # tokens held since the cache was last empty

    def forward(self, ids: npt.NDArray[np.int32], start: int, rows: Rows) -> Logits:
        graph, binding = self._bound(rows if len(ids) > 1 else "last")
        if not start:
            self._longest = 0
        wide = ids.astype(np.int64)[None]
        logits = np.empty((len(ids) if rows == "all" else 1, self._spec.vocab_size), np.float32)
        for first, stop in self._chunks(start, len(ids)):
            self._longest = max(self._longest, start + stop)
            mask = np.ones((1, start + stop), np.int64)
            inputs = {"input_ids": wide[:, first:stop], "attention_mask": mask}
            graph.run(binding, inputs, logits[first:stop] if rows == "all" else logits, self._options)
        return logits

    def rewindable_to(self, length: int) -> int:
        return max(_rewindable_to(*sizes, self._longest) for sizes in self._sizes())

    def truncate(self, length: int) -> None:
        if not length:
            self._longest = 0

    def fork(self) -> OnnxRuntimeCache:
        other = OnnxRuntimeCache(self._engine)
        other._fill(self._rows(self._longest), self._longest)
        return other

    def export(self, length: int) -> Arrays:
        return pack(self._rows(length))

    def restore(self, arrays: Arrays, length: int) -> None:
        shapes = [
            (keys.shape[1], n, keys.shape[3]) for (keys, _), n in zip(self._buffers, self._held(length), strict=True)
        ]
        self._fill(unpack(arrays, shapes), length)

    def cancel(self, on: bool) -> None:
        self._options.terminate = on

    def close(self) -> None:
        self._buffers, self._values, self._bindings = [], {}, {}

    def _bound(self, rows: Rows) -> tuple[_Graph, Any]:
        graph = self._engine.graph(rows)
        if rows not in self._bindings:
            self._bindings[rows] = graph.bind(self._values)
        return graph, self._bindings[rows]

    def _chunks(self, start: int, count: int) -> Iterator[tuple[int, int]]:
        """Cuts of ``count`` new rows that bound the memory of one run, attention scores above all."""
        heads, first = max(block.mixer.n_heads for block in self._spec.layers), 0
        while first < count:
            length = start + min(first + CHUNK_ROWS, count)
            step = max(1, min(CHUNK_ROWS, CHUNK_SCORES // (heads * length)))
            yield first, min(first + step, count)
            first += step

    def _sizes(self) -> list[tuple[int, int]]:
        """Window (0: none) and capacity of each layer."""
        windows = (block.mixer.window for block in self._spec.layers)
        return [(window, keys.shape[2]) for window, (keys, _) in zip(windows, self._buffers, strict=True)]

    def _held(self, length: int) -> list[int]:
        """Rows that each layer keeps of ``length`` tokens: the last ones, from the start of its buffer."""
        return [length - _dropped(*sizes, length) for sizes in self._sizes()]

    def _rows(self, length: int) -> list[Layer]:
        """Views of these rows: (n_kv_heads, rows, width)."""
        pairs = zip(self._buffers, self._held(length), strict=True)
        return [(keys[0, :, :held], values[0, :, :held]) for (keys, values), held in pairs]

    def _fill(self, rows: list[Layer], length: int) -> None:
        for to, source in zip(self._rows(length), rows, strict=True):
            for buffer, part in zip(to, source, strict=True):
                buffer[:] = part
        self._longest = length


def _dropped(window: int, capacity: int, length: int) -> int:
    """Rows that a bounded cache has dropped of ``length`` tokens: always as many at once as leave the window's.

    So says the contract of GroupQueryAttention's ``sliding_window_cache``, to which onnxruntime's providers keep.
    """
    at_once = capacity - window + 1
    return -(-(length - capacity) // at_once) * at_once if window and length > capacity else 0


def _rewindable_to(window: int, capacity: int, longest: int) -> int:
    """The smallest length for which the rows in the buffer are where they would have been."""
    dropped = _dropped(window, capacity, longest)
    return capacity + dropped - (capacity - window + 1) + 1 if dropped else 1


def _check_interface(session: Any, spec: DecoderSpec, rows: Rows, name: str) -> list[tuple[int, ...]]:
    """Compare inputs and outputs with the spec; returns the shape of each layer's cache buffers."""
    inputs = {i.name: (i.type, i.shape) for i in session.get_inputs()}
    outputs = {o.name: (o.type, o.shape) for o in session.get_outputs()}
    problems = []

    def expect(found: dict[str, tuple[str, list[Any]]], key: str, kind: str, *dims: int | str | None) -> list[Any]:
        """``dims``: None for one that varies, a name for one that varies under this name."""
        type_, shape = found.get(key, ("nothing", []))
        wanted = [d if d is not None else s for d, s in zip(dims, shape, strict=False)]
        if type_ != f"tensor({kind})" or len(shape) != len(dims) or shape != wanted:
            problems.append(f"{key}: expected {kind} {dims}, found {type_} {shape}")
            return [0] * len(dims)
        return shape

    expect(inputs, "input_ids", "int64", 1, None)
    expect(inputs, "attention_mask", "int64", 1, None)
    expect(outputs, "logits", "float", 1, 1 if rows == "last" else None, spec.vocab_size)
    shapes: list[tuple[int, ...]] = []
    for layer, block in enumerate(spec.layers):
        a = block.mixer
        width, capacity = -(-a.head_dim // 8) * 8, spec.context_length
        if a.window:
            capacity = min(capacity, a.window + WINDOW_SLACK)
        shapes.append((1, a.n_kv_heads, capacity, width))
        past, present = ("past_window", "window") if a.window else ("past", "capacity")
        for part in (f"{layer}.key", f"{layer}.value"):
            expect(inputs, "past_key_values." + part, "float", 1, a.n_kv_heads, past, width)
            expect(outputs, "present." + part, "float", 1, a.n_kv_heads, present, width)
    tables = session.get_modelmeta().custom_metadata_map.get("context_length", "unknown")
    if tables != str(spec.context_length):  # older versions of onnxruntime read past the end of rope tables
        problems.append(f"context_length: expected {spec.context_length}, found {tables}")
    extra = len(inputs) + len(outputs) - 3 - 4 * len(shapes)
    if problems or extra:
        detail = "; ".join(problems[:4]) or "it has further inputs or outputs"
        raise EngineError(f"{name}: is not the graph of this bundle's decoder ({detail}): convert the model again")
    return shapes


def _import_onnxruntime(windows: bool) -> ModuleType:
    """The module, if it is new enough: for any graph, and for one with bounded caches of ``windows``."""
    try:
        module = importlib.import_module("onnxruntime")
    except ModuleNotFoundError:
        raise MissingExtraError("the onnxruntime engine", "onnxruntime", "onnx") from None
    found = tuple(int(n) for n in module.__version__.split(".")[:2])
    for needed, minimum, lack in (
        (True, MINIMUM_VERSION, "lets a graph read files outside its folder"),
        (windows, WINDOW_VERSION, "has no bounded caches for sliding windows"),
    ):
        if needed and found < minimum:
            raise EngineError(
                f"onnxruntime {module.__version__} {lack}; expected {minimum[0]}.{minimum[1]} or later: "
                "pip install -U onnxruntime"
            )
    return module


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """onnxruntime's exceptions, which share no base of their own, as one line of ours."""
    try:
        yield
    except Exception as error:
        lines = " ".join(str(error).split())
        raise EngineError(f"{what}: {lines[:400]}") from error
