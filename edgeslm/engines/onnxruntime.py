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
from edgeslm.engines.checks import check_ids, check_rows, check_truncate
from edgeslm.engines.protocol import Logits, Rows, TokenIds
from edgeslm.engines.threads import resolve_threads
from edgeslm.errors import EngineError, MissingExtraError, RewindError
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

    def __init__(self, spec: DecoderSpec, paths: dict[Rows, Path], threads: int) -> None:
        self.spec = spec
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
        return cls(bundle.spec, paths, resolve_threads(threads))

    def new_session(self) -> OnnxRuntimeSession:
        return OnnxRuntimeSession(self)

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

    def run(self, binding: Any, inputs: dict[str, npt.NDArray[Any]], logits: Logits) -> None:
        """One forward pass into ``logits`` and the bound cache."""
        with _translated("onnxruntime failed"):
            for name, value in inputs.items():
                binding.bind_cpu_input(name, value)
            binding.bind_ortvalue_output("logits", self.value(logits[None]))
            self._session.run_with_iobinding(binding)

    def value(self, array: npt.NDArray[Any]) -> Any:
        """An onnxruntime value over the memory of ``array``."""
        return self._ort.OrtValue.ortvalue_from_numpy(array)


class OnnxRuntimeSession:
    """One sequence. It rewinds anywhere until a layer with a window has dropped rows; then only to the start."""

    def __init__(self, engine: OnnxRuntimeEngine) -> None:
        self._engine: OnnxRuntimeEngine | None = engine
        graph = engine.graph("last")
        try:  # zeroed pages cost nothing until they are written; onnxruntime reads and writes them in place
            self._cache = {name: graph.value(np.zeros(s, np.float32)) for name, s in graph.cache_shapes.items()}
        except MemoryError:
            raise EngineError(
                f"no memory for a cache of {engine.spec.context_length} tokens: convert with a smaller --context"
            ) from None
        self._bindings: dict[Rows, Any] = {}
        self._heads = max(block.mixer.n_heads for block in engine.spec.layers)
        self._capacity = min(shape[2] for shape in graph.cache_shapes.values())
        self._length = 0
        self._longest = 0  # since the cache was last empty

    @property
    def length(self) -> int:
        return self._length

    def forward(self, ids: TokenIds, rows: Rows = "last") -> Logits:
        engine = self._open()
        check_rows(rows)
        checked = check_ids(ids, engine.spec, self._length).astype(np.int64)[None]
        count = checked.shape[1]
        graph, binding = self._bound(engine, rows if count > 1 else "last")
        logits = np.empty((count if rows == "all" else 1, engine.spec.vocab_size), np.float32)
        self._longest = max(self._longest, self._length + count)
        try:
            for start, stop in self._chunks(count):
                mask = np.ones((1, self._length + stop), np.int64)
                inputs = {"input_ids": checked[:, start:stop], "attention_mask": mask}
                graph.run(binding, inputs, logits[start:stop] if rows == "all" else logits)
        except BaseException:
            if self._has_dropped_rows():  # some of those that a second attempt would need
                self.close()
            raise
        self._length += count
        return logits

    def truncate(self, length: int) -> None:
        self._open()
        check_truncate(length, self._length)
        if 0 < length < self._length and self._has_dropped_rows():
            raise RewindError(
                f"truncate to {length}: past {self._capacity} tokens the onnxruntime engine keeps no rows outside a "
                "sliding window: truncate to 0 and run the tokens again"
            )
        self._length = length
        if not length:
            self._longest = 0

    def _has_dropped_rows(self) -> bool:
        return self._longest > self._capacity

    def close(self) -> None:
        self._engine = None
        self._cache, self._bindings = {}, {}

    def _open(self) -> OnnxRuntimeEngine:
        if self._engine is None:
            raise EngineError("this session has been closed: open a new one")
        return self._engine

    def _bound(self, engine: OnnxRuntimeEngine, rows: Rows) -> tuple[_Graph, Any]:
        graph = engine.graph(rows)
        if rows not in self._bindings:
            self._bindings[rows] = graph.bind(self._cache)
        return graph, self._bindings[rows]

    def _chunks(self, count: int) -> Iterator[tuple[int, int]]:
        """Cuts of the new rows that bound the memory of one run, attention scores above all."""
        start = 0
        while start < count:
            length = self._length + min(start + CHUNK_ROWS, count)
            step = max(1, min(CHUNK_ROWS, CHUNK_SCORES // (self._heads * length)))
            yield start, min(start + step, count)
            start += step


def _check_interface(session: Any, spec: DecoderSpec, rows: Rows, name: str) -> dict[str, tuple[int, ...]]:
    """Compare inputs and outputs with the spec; "layer.key" and "layer.value" → shape of that cache buffer."""
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
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, block in enumerate(spec.layers):
        a = block.mixer
        width, capacity = -(-a.head_dim // 8) * 8, spec.context_length
        if a.window:
            capacity = min(capacity, a.window + WINDOW_SLACK)
        for part in (f"{layer}.key", f"{layer}.value"):
            past, present = ("past_window", "window") if a.window else ("past", "capacity")
            expect(inputs, "past_key_values." + part, "float", 1, a.n_kv_heads, past, width)
            expect(outputs, "present." + part, "float", 1, a.n_kv_heads, present, width)
            shapes[part] = (1, a.n_kv_heads, capacity, width)
    tables = session.get_modelmeta().custom_metadata_map.get("context_length", "unknown")
    if tables != str(spec.context_length):  # older versions of onnxruntime read past the end of rope tables
        problems.append(f"context_length: expected {spec.context_length}, found {tables}")
    extra = len(inputs) + len(outputs) - 3 - 2 * len(shapes)
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
