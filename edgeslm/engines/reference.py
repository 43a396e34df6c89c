"""The oracle: the decoder in plain NumPy, float32, eager. Every other engine is held against it.

Weights are read in blocks of rows, one matrix at a time, so that a checkpoint of a billion parameters needs
little memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeslm.decoder import build
from edgeslm.engines.checks import check_ids, check_rows, check_truncate
from edgeslm.engines.protocol import Logits, Rows, TokenIds
from edgeslm.errors import EngineError
from edgeslm.rope import query_temperature, rope_tables, uses_long
from edgeslm.spec import Attention, DecoderSpec
from edgeslm.weights import WeightSource, row_blocks, vector

Array = npt.NDArray[Any]
Tap = Callable[[str, Array], None]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def silu(x: Array) -> Array:
    """x · sigmoid(x)."""
    with np.errstate(over="ignore"):  # exp(-x) may be inf; x / inf is the right 0
        return np.asarray(x / (1 + np.exp(-x)))


def gelu(x: Array) -> Array:
    """x · Φ(x), with the error function."""
    return np.asarray(0.5 * x * (1 + _erf(x / math.sqrt(2))), np.float32)


def gelu_tanh(x: Array) -> Array:
    """The tanh approximation of gelu, as torch's gelu(approximate="tanh")."""
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3)
    return np.asarray(0.5 * x * (1 + np.tanh(inner)))


_ACTIVATIONS = {"silu": silu, "gelu": gelu, "gelu_tanh": gelu_tanh}


class KvCache:
    """Keys and values of one layer, every row kept: (n_kv_heads, capacity, head_dim), growing as needed."""

    def __init__(self, a: Attention) -> None:
        self._keys = np.empty((a.n_kv_heads, 0, a.head_dim), np.float32)
        self._values = self._keys

    def append(self, start: int, k: Array, v: Array) -> tuple[Array, Array]:
        """Write rows (m, n_kv_heads, head_dim) at ``start``; returns keys and values of 0..start + m - 1."""
        stop = start + len(k)
        if stop > self._keys.shape[1]:
            self._keys, self._values = (_grown(old, start, 2 * stop) for old in (self._keys, self._values))
        self._keys[:, start:stop] = k.swapaxes(0, 1)
        self._values[:, start:stop] = v.swapaxes(0, 1)
        return self._keys[:, :stop], self._values[:, :stop]


def _grown(old: Array, used: int, capacity: int) -> Array:
    new = np.empty((old.shape[0], capacity, old.shape[2]), np.float32)
    new[:, :used] = old[:, :used]
    return new


class NumpyBuilder:
    """Computes each operation when called: one forward pass of ``ids`` behind ``start`` cached tokens."""

    def __init__(
        self,
        spec: DecoderSpec,
        weights: WeightSource,
        caches: list[KvCache],
        ids: npt.NDArray[np.int32],
        start: int,
        rows: Rows = "all",
        tap: Tap | None = None,
    ) -> None:
        self._spec, self._weights, self._caches, self._rows, self._tap = spec, weights, caches, rows, tap
        self._ids, self._start = ids, start
        self._positions = np.arange(start, start + len(ids))

    def token_ids(self) -> Array:
        return self._ids

    def embed(self, ids: Array, table: str, scale: float) -> Array:
        return np.asarray(self._weights.take(table, ids) * np.float32(scale))

    def rms_norm(self, x: Array, weight: str, eps: float, groups: int = 1) -> Array:
        slices = x.reshape(len(x), groups, -1)
        mean_square = np.mean(slices * slices, axis=-1, keepdims=True)
        normalised = slices / np.sqrt(mean_square + np.float32(eps))
        return np.asarray(normalised * vector(self._weights, weight)).reshape(x.shape)

    def linear(self, x: Array, weight: str, bias: bool = False) -> Array:
        shape = self._weights.shape(weight)
        y = np.empty((len(x), shape[0]), np.float32)
        for start, stop in row_blocks(shape):
            np.matmul(x, self._weights.rows(weight, start, stop).T, out=y[:, start:stop])
        return y + vector(self._weights, weight + ".bias") if bias else y

    def attention(self, q: Array, k: Array, v: Array, cache: int, a: Attention) -> Array:
        m = len(q)
        q = q.reshape(m, a.n_heads, a.head_dim)
        k, v = (x.reshape(m, a.n_kv_heads, a.head_dim) for x in (k, v))
        if a.rope >= 0:
            q, k = self._rotate(q, k, a.rope)
        keys, values = self._caches[cache].append(self._start, k, v)
        hidden = self._hidden(a.window)
        out = np.empty_like(q)
        for head in range(a.n_heads):  # one head at a time: the scores of all would be m · length · n_heads
            kv = head // (a.n_heads // a.n_kv_heads)
            scores = q[:, head] @ keys[kv].T * np.float32(a.scale)
            if a.softcap:
                scores = np.tanh(scores / np.float32(a.softcap)) * np.float32(a.softcap)
            scores[hidden] = -np.inf
            out[:, head] = _softmax(scores) @ values[kv]
        return out.reshape(m, -1)

    def _rotate(self, q: Array, k: Array, index: int) -> tuple[Array, Array]:
        rope = self._spec.ropes[index]
        cos, sin = rope_tables(rope, self._positions, uses_long(rope, self._spec.context_length))
        temperature = query_temperature(rope, self._positions)
        return rotate(q, cos, sin) * temperature[:, None, None], rotate(k, cos, sin)

    def _hidden(self, window: int) -> Array:
        """(m, length) bool: which cached positions each row must not see."""
        distance = self._positions[:, None] - np.arange(self._start + len(self._ids))[None, :]
        return (distance < 0) | (distance >= window) if window else distance < 0

    def act_mul(self, gate: Array, up: Array, act: str) -> Array:
        return _ACTIVATIONS[act](gate) * up

    def add(self, x: Array, y: Array) -> Array:
        return x + y

    def tap(self, x: Array, name: str) -> Array:
        if self._tap is not None:
            self._tap(name, x)
        return x

    def select_rows(self, x: Array) -> Array:
        return x[-1:] if self._rows == "last" else x

    def logits(self, x: Array, table: str, softcap: float) -> Array:
        y = self.linear(x, table)
        return np.tanh(y / np.float32(softcap)) * np.float32(softcap) if softcap else y


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Half-split rotation of (m, heads, head_dim) by (m, half) tables; what lies beyond 2 · half stays."""
    half = cos.shape[1]
    low, high, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    c, s = cos[:, None], sin[:, None]
    return np.concatenate([low * c - high * s, high * c + low * s, rest], axis=-1)


def _softmax(scores: Array) -> Array:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


class ReferenceEngine:
    """Runs a decoder from any source of float32 weights: a checkpoint, or a bundle read back."""

    name = "reference"
    isa = ""

    def __init__(self, spec: DecoderSpec, source: WeightSource, tap: Tap | None = None) -> None:
        """``tap`` is called with (name, value) wherever the decoder lets one look."""
        self.spec = spec
        self.threads = os.cpu_count() or 1  # NumPy's BLAS takes what there is
        self.source: WeightSource | None = source
        self.tap = tap

    def new_session(self) -> ReferenceSession:
        return ReferenceSession(self)

    def close(self) -> None:
        self.source = None


class ReferenceSession:
    """Keeps every row, so it rewinds anywhere."""

    def __init__(self, engine: ReferenceEngine) -> None:
        self._engine: ReferenceEngine | None = engine
        self._caches = [KvCache(block.mixer) for block in engine.spec.layers]
        self._length = 0

    @property
    def length(self) -> int:
        return self._length

    def _open(self) -> tuple[ReferenceEngine, WeightSource]:
        if self._engine is None or self._engine.source is None:
            raise EngineError("this session, or the model it belongs to, has been closed: open a new one")
        return self._engine, self._engine.source

    def forward(self, ids: TokenIds, rows: Rows = "last") -> Logits:
        engine, source = self._open()
        check_rows(rows)
        checked = check_ids(ids, engine.spec, self._length)
        builder = NumpyBuilder(engine.spec, source, self._caches, checked, self._length, rows, engine.tap)
        logits: Logits = build(engine.spec, builder)
        self._length += len(checked)
        return logits

    def truncate(self, length: int) -> None:
        self._open()
        check_truncate(length, self._length)
        self._length = length

    def close(self) -> None:
        self._engine = None
        self._caches = []
