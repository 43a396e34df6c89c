"""The native engine: the decoder as a C program over the bundle's mapped weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeslm import _native
from edgeslm.bundle import Bundle
from edgeslm.engines.checks import check_ids, check_rows, check_truncate
from edgeslm.engines.program import build_program
from edgeslm.engines.protocol import Logits, Rows, TokenIds
from edgeslm.engines.threads import resolve_threads
from edgeslm.errors import BundleError, EngineError
from edgeslm.formats import FORMATS
from edgeslm.manifest import TensorEntry
from edgeslm.rope import uses_long
from edgeslm.spec import MAX_CONTEXT, DecoderSpec, Rope

F32Array = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


class NativeEngine:
    """Runs a bundle's ONNX weights in place, without onnxruntime."""

    name = "native"

    def __init__(self, spec: DecoderSpec, model: _native.Model, threads: int) -> None:
        """See :meth:`open`."""
        self.spec, self.threads, self.isa = spec, threads, _native.isa()
        self._model = model

    @classmethod
    def open(cls, bundle: Bundle, threads: int | None = None) -> NativeEngine:
        """Map the weights of a bundle's "onnx" target.

        Args:
            bundle: an opened bundle; its files stay mapped until the engine is closed.
            threads: 1..256; None takes the CPUs that this process may use.

        Raises:
            ArgumentError: an impossible number of threads.
            BundleError: the bundle has no "onnx" target, or one without a tensor table.
            EngineError: not enough memory or threads, or EDGESLM_ISA names a set that cannot be used here.
        """
        tensors = bundle.target("onnx").tensors
        if not tensors:
            raise BundleError(f"{bundle.folder}: target 'onnx' has no tensor table; convert the model again")
        files = {name: bundle.map(name) for name in {t.file for t in tensors.values()}}
        return cls.from_tensors(bundle.spec, tensors, files, threads)

    @classmethod
    def from_tensors(
        cls, spec: DecoderSpec, tensors: dict[str, TensorEntry], files: dict[str, Bytes], threads: int | None = None
    ) -> NativeEngine:
        """An engine over tensors within ``files`` (name → read-only uint8 array, kept alive and used in place)."""
        count = resolve_threads(threads)
        program = build_program(spec, tensors)
        model = _native.Model(
            program,
            spec.vocab_size,
            spec.context_length,
            [_matrix(tensors[name], files) for name in program.matrices],
            [_vector(tensors[name], files) for name in program.vectors],
            [_rope(rope, spec.context_length) for rope in spec.ropes],
            count,
        )
        return cls(spec, model, count)

    def new_session(self) -> NativeSession:
        """An empty session; sessions of several threads take turns on the model's threads."""
        return NativeSession(self.spec, _native.Session(self._model))

    def close(self) -> None:
        """Free the model once no run is under way; sessions become unusable."""
        self._model.close()


@dataclass(frozen=True, eq=False)
class NativeSession:
    """One sequence and its cache, whose memory grows with the tokens held."""

    _spec: DecoderSpec
    _session: _native.Session

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return self._session.length

    def forward(self, ids: TokenIds, rows: Rows = "last") -> Logits:
        """Append ids; logits (1, vocab) of the last or (len(ids), vocab) of all."""
        check_rows(rows)
        checked = check_ids(ids, self._spec, self._session.length)
        shape = (len(checked) if rows == "all" else 1, self._spec.vocab_size)
        try:
            logits = np.empty(shape, np.float32)
        except MemoryError:
            raise EngineError(f"not enough memory for {shape} logits: ask for fewer rows at once") from None
        self._session.run(checked, rows == "all", logits)
        return logits

    def truncate(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        check_truncate(length, self._session.length)
        self._session.truncate(length)

    def cancel(self) -> None:
        """Make a ``forward`` under way in another thread raise EngineError soon; the session keeps its length."""
        self._session.cancel()

    def close(self) -> None:
        """Free the cache."""
        self._session.close()


def _part(entry: TensorEntry, part: str, files: dict[str, Bytes]) -> Bytes:
    at = entry.parts[part]
    return files[entry.file][at.offset : at.offset + at.bytes]


def _matrix(entry: TensorEntry, files: dict[str, Bytes]) -> _native.Weight:
    scales = _part(entry, "scales", files).view(np.float32) if FORMATS[entry.format].grouped else None
    n, k = entry.shape
    return entry.format, n, k, entry.group_size, _part(entry, "data", files), scales


def _vector(entry: TensorEntry, files: dict[str, Bytes]) -> F32Array:
    """A norm's weight or a bias as float32; only one stored as float16 is copied (it is small)."""
    form = FORMATS[entry.format]
    data = _part(entry, "data", files).view(form.layout(entry.shape, 0)["data"].dtype)
    return form.decode({"data": data}, entry.shape, 0)


def _rope(rope: Rope, context_length: int) -> _native.RopeTable:
    long = uses_long(rope, context_length)
    frequencies, scale = (rope.long_inv_freq, rope.long_scale) if long else (rope.inv_freq, rope.scale)
    period = min(rope.q_period, MAX_CONTEXT + 1)  # beyond every position; C has 63 bits
    return np.array(frequencies, np.float32), scale, rope.q_beta, period
