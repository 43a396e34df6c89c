"""The engine over a bundle's Core ML program: Apple's runtime on macOS, the interpreter everywhere else.

It drives the program by its documented interface alone, as Hugging Face's Python example does: ``inputIds`` (1, T),
``causalMask`` (1, 1, T, end) with end the tokens held after the call, states for keys and values, ``logits``
(1, T, vocab). Apple's runtime has not been run by this project: there is no macOS where it is built.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeslm.bundle import Bundle
from edgeslm.engines.coreml_interpreter.budget import Limits
from edgeslm.engines.coreml_interpreter.interpreter import Interpreter
from edgeslm.engines.coreml_interpreter.types import NUMPY, TensorType
from edgeslm.engines.protocol import Arrays, Logits, Rows, one_by_one
from edgeslm.engines.session import Session
from edgeslm.engines.threads import resolve_threads
from edgeslm.errors import BundleError, CancelledError, EngineError, SessionFileError
from edgeslm.spec import DecoderSpec, tensor_shapes

TARGET = "coreml"
INTERPRETED, NATIVE = "interpreter", "Core ML"  # what runs the program, as the engine's isa
CHUNK_ROWS = 128  # of a long prompt, per run
CHUNK_SCORES = 8 << 20  # attention scores per run: heads x rows x length, float32 (32 MB)

Inputs = dict[str, npt.NDArray[Any]]


class Runtime(Protocol):
    """Something that runs the program, with states of its own kind."""

    @property
    def isa(self) -> str:
        """INTERPRETED or NATIVE."""

    def new(self) -> Any:
        """States as they start."""

    def run(self, inputs: Inputs, states: Any, cancelled: Callable[[], bool]) -> tuple[npt.NDArray[Any], Any]:
        """The logits, and the states after it."""

    def read(self, states: Any) -> Arrays:
        """States as arrays."""

    def write(self, arrays: Arrays) -> Any:
        """New states that hold these arrays."""


class InterpreterRuntime:
    """The program in NumPy; states are arrays that are never changed in place."""

    isa = INTERPRETED

    def __init__(self, program: Interpreter) -> None:
        self._program = program

    def new(self) -> Arrays:
        return self._program.new_states()

    def run(self, inputs: Inputs, states: Arrays, cancelled: Callable[[], bool]) -> tuple[npt.NDArray[Any], Arrays]:
        outputs, after = self._program.run(inputs, states, cancelled)
        return outputs["logits"], after

    def read(self, states: Arrays) -> Arrays:
        return dict(states)

    def write(self, arrays: Arrays) -> Arrays:
        return dict(arrays)


class AppleRuntime:
    """coremltools' MLModel; a run changes its states in place, and cannot be stopped."""

    isa = NATIVE

    def __init__(self, folder: Path, names: list[str]) -> None:
        coremltools: Any = importlib.import_module("coremltools")
        self._names = names
        self._guard = "Core ML cannot open the program"
        self._model = self._call(coremltools.models.MLModel, str(folder))
        self._guard = "Core ML failed"

    def new(self) -> Any:
        return self._call(self._model.make_state)

    def run(self, inputs: Inputs, states: Any, cancelled: Callable[[], bool]) -> tuple[npt.NDArray[Any], Any]:
        if cancelled():
            raise CancelledError
        outputs = self._call(self._model.predict, inputs, state=states)
        return np.asarray(outputs["logits"]), states

    def read(self, states: Any) -> Arrays:
        return {name: np.array(self._call(states.read_state, name)) for name in self._names}

    def write(self, arrays: Arrays) -> Any:
        states = self.new()
        for name, array in arrays.items():
            self._call(states.write_state, name, array)
        return states

    def _call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """coremltools' exceptions, which share no base of their own, as one line of ours."""
        try:
            return function(*arguments, **named)
        except Exception as error:
            raise EngineError(f"{self._guard}: {' '.join(str(error).split())[:400]}") from error


class CoreMlEngine:
    """A bundle's Core ML target. Safe to use from several threads, a session each.

    Attributes:
        isa: what runs the program: "Core ML", or "interpreter".
    """

    name = "coreml"
    step_bytes = None

    def __init__(
        self, spec: DecoderSpec, runtime: Runtime, states: dict[str, TensorType], threads: int, fingerprint: str = ""
    ) -> None:
        self.spec, self.threads, self.fingerprint = spec, threads, fingerprint
        self.isa = runtime.isa
        self.kv_type = "/".join(sorted({kind.dtype.replace("fp", "f") for kind in states.values()}))
        self.states = states
        self._runtime: Runtime | None = runtime

    @classmethod
    def open(cls, bundle: Bundle, threads: int | None = None) -> CoreMlEngine:
        """Open the bundle's target "coreml".

        Raises:
            BundleError: the bundle has no such target, or its program is damaged or not that of the bundle's decoder.
            MissingExtraError: coremltools is not installed.
            EngineError: Core ML refuses the program.
        """
        folder = bundle.folder / _package(bundle)
        program = Interpreter.open(folder, limits=limits_for(bundle.spec))
        _check_interface(program, bundle.spec)
        states = program.function.states
        apple = sys.platform == "darwin"
        runtime: Runtime = AppleRuntime(folder, [*states]) if apple else InterpreterRuntime(program)
        return cls(bundle.spec, runtime, states, resolve_threads(threads), bundle.fingerprint(TARGET))

    @property
    def runtime(self) -> Runtime:
        if self._runtime is None:
            raise EngineError("the model has been closed: load it again")
        return self._runtime

    def new_session(self) -> Session:
        return Session(self, lambda: CoreMlCache(self))

    forward_together = staticmethod(one_by_one)

    def close(self) -> None:
        self._runtime = None


class CoreMlCache:
    """The states of one sequence.

    Layers that keep every row rewind exactly: a row is where its position says, and the mask's width says how many
    count. Layers with a window keep the last rows only, so that a model with such layers goes back to its start.
    """

    def __init__(self, engine: CoreMlEngine) -> None:
        self._engine = engine
        self._windows = any(block.mixer.window for block in engine.spec.layers)
        self._states = engine.runtime.new()
        self._cancelled = False
        self._lost = False  # a run that failed has changed what going on needs

    def forward(self, ids: npt.NDArray[np.int32], start: int, rows: Rows) -> Logits:
        runtime, states, spec = self._engine.runtime, self._states, self._engine.spec
        logits = np.empty((len(ids) if rows == "all" else 1, spec.vocab_size), np.float32)
        self._lost = self._windows and runtime.isa == NATIVE and start > 0
        for first, stop in chunks(spec, start, len(ids)):
            inputs: Inputs = {
                "inputIds": ids[None, first:stop],
                "causalMask": causal_mask(stop - first, start + stop),
            }
            found, states = runtime.run(inputs, states, lambda: self._cancelled)
            if found.shape != (1, stop - first, spec.vocab_size):
                raise EngineError(f"{stop - first} tokens gave logits of shape {list(found.shape)}")
            if rows == "all":
                logits[first:stop] = found[0]
            else:
                logits[:] = found[0, -1:]
        self._states, self._lost = states, False
        return logits

    def rewindable_to(self, length: int) -> int:
        return length + 1 if self._lost else length if self._windows else 1

    def truncate(self, length: int) -> None:
        if not length:
            self._states, self._lost = self._engine.runtime.new(), False

    def fork(self) -> CoreMlCache:
        runtime, other = self._engine.runtime, CoreMlCache(self._engine)
        other._states = runtime.write(runtime.read(self._states))
        return other

    def export(self, length: int) -> Arrays:
        return self._engine.runtime.read(self._states)

    def restore(self, arrays: Arrays, length: int) -> None:
        _check_states(arrays, self._engine.states)
        self._states = self._engine.runtime.write(arrays)

    def cancel(self, on: bool) -> None:
        self._cancelled = on

    def close(self) -> None:
        self._states = None


def chunks(spec: DecoderSpec, start: int, count: int) -> Iterator[tuple[int, int]]:
    """Cuts of ``count`` new rows behind ``start`` that bound the memory of one run, attention scores above all."""
    heads, first = max(block.mixer.n_heads for block in spec.layers), 0
    while first < count:
        length = start + min(first + CHUNK_ROWS, count)
        step = max(1, min(CHUNK_ROWS, CHUNK_SCORES // (heads * length)))
        yield first, min(first + step, count)
        first += step


def causal_mask(rows: int, end: int) -> npt.NDArray[np.float16]:
    """(1, 1, rows, end): 0 where a row may look, -inf behind its own position; the last row is at ``end`` - 1."""
    mask = np.full((1, 1, rows, end), -np.inf if rows > 1 else 0, np.float16)
    return np.triu(mask, end - rows + 1)


def limits_for(spec: DecoderSpec) -> Limits:
    """Far more than one run over CHUNK_ROWS rows of this decoder takes, and far less than a machine has."""
    sizes = [math.prod(shape) for shape in tensor_shapes(spec).values()]
    rows = min(CHUNK_ROWS, spec.context_length)
    mixers = [block.mixer for block in spec.layers]
    cache = 2 * sum(a.n_kv_heads * a.head_dim for a in mixers) * (spec.context_length + 1)
    scores = max(a.n_heads for a in mixers) * rows * (spec.context_length + rows)
    largest = max(*sizes, cache, scores, rows * spec.vocab_size, rows * max(b.mlp.inner for b in spec.layers))
    products = rows * sum(sizes) + len(mixers) * scores * 2 * max(a.head_dim for a in mixers)
    return Limits(
        elements=2 * largest + (1 << 16),
        held=4 * (largest + cache) + (1 << 20),
        work=8 * (products + len(mixers) * (cache + scores)) + (1 << 22),
    )


def _package(bundle: Bundle) -> str:
    """The package's folder in the bundle: all files of the target lie below it."""
    roots = {path.split("/")[0] for path in bundle.target(TARGET).files.values()}
    if len(roots) != 1 or not next(iter(roots)).endswith(".mlpackage"):
        raise BundleError(
            f"{bundle.folder}: target {TARGET!r}: expected the files of one .mlpackage, found {sorted(roots)}"
        )
    return roots.pop()


def _check_interface(program: Interpreter, spec: DecoderSpec) -> None:
    function, features = program.function, program.function.features
    whole = {"inputIds": (1, spec.context_length), "causalMask": (1, 1, 1, spec.context_length)}
    expected = {
        "inputIds": TensorType("int32", (1, None)),
        "causalMask": TensorType("fp16", (1, 1, None, None)),
    }
    if (
        function.inputs != expected
        or function.outputs != ("logits",)
        or not all(features[name].takes(shape) for name, shape in whole.items())
        or any(kind.dtype not in ("fp16", "fp32") for kind in function.states.values())
    ):
        found = ", ".join(f"{name} {kind}" for name, kind in function.inputs.items())
        raise BundleError(
            f"the Core ML program is not that of this bundle's decoder, with {spec.context_length} tokens of context "
            f"(inputs {found[:200]}; outputs {list(function.outputs)[:4]}): convert the model again"
        )


def _check_states(arrays: Arrays, states: dict[str, TensorType]) -> None:
    """SessionFileError unless these are values of the program's states."""
    if set(arrays) != set(states):
        raise SessionFileError(f"saved session: expected states {sorted(states)[:8]}, found {sorted(arrays)[:8]}")
    for name, kind in states.items():
        found = arrays[name]
        if found.dtype != NUMPY[kind.dtype] or found.shape != kind.shape or not np.isfinite(found).all():
            raise SessionFileError(f"saved session: {name}: expected finite {kind}, found {found.dtype} {found.shape}")
