"""The oracle: the decoder in plain NumPy, float32, eager. Every other engine is held against it.

Weights are read in blocks of rows, one matrix at a time, so that a checkpoint of a billion parameters needs
little memory.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeslm.decoder import build
from edgeslm.engines.kv_arrays import pack, unpack
from edgeslm.engines.protocol import Arrays, Logits, Rows, one_by_one
from edgeslm.engines.session import Session
from edgeslm.errors import CancelledError, EngineError
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
        return self.rows(stop)

    def rows(self, stop: int) -> tuple[Array, Array]:
        """Keys and values of 0..stop - 1: (n_kv_heads, stop, head_dim)."""
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
    kv_type = "f32"
    step_bytes = None

    def __init__(self, spec: DecoderSpec, source: WeightSource, tap: Tap | None = None, fingerprint: str = "") -> None:
        """``tap`` is called with (name, value) wherever the decoder lets one look."""
        self.spec = spec
        self.threads = os.cpu_count() or 1  # NumPy's BLAS takes what there is
        self.source: WeightSource | None = source
        self.tap = tap
        self.fingerprint = fingerprint

    def new_session(self) -> Session:
        return Session(self, lambda: ReferenceCache(self, [KvCache(block.mixer) for block in self.spec.layers]))

    forward_together = staticmethod(one_by_one)

    def close(self) -> None:
        self.source = None


class ReferenceCache:
    """Keeps every row, so it rewinds anywhere."""

    def __init__(self, engine: ReferenceEngine, layers: list[KvCache]) -> None:
        self._engine, self._layers = engine, layers
        self._cancelled = False

    def forward(self, ids: npt.NDArray[np.int32], start: int, rows: Rows) -> Logits:
        source = self._engine.source
        if source is None:
            raise EngineError("the model has been closed: load it again")
        tap = self._stoppable(self._engine.tap)
        builder = NumpyBuilder(self._engine.spec, source, self._layers, ids, start, rows, tap)
        logits: Logits = build(self._engine.spec, builder)
        return logits

    def _stoppable(self, tap: Tap | None) -> Tap:
        def stop_or_look(name: str, value: Array) -> None:
            if self._cancelled:
                raise CancelledError
            if tap is not None:
                tap(name, value)

        return stop_or_look

    def rewindable_to(self, length: int) -> int:
        return 1

    def truncate(self, length: int) -> None:
        pass

    def fork(self) -> ReferenceCache:
        return ReferenceCache(self._engine, [copy.deepcopy(layer) for layer in self._layers])

    def export(self, length: int) -> Arrays:
        return pack(layer.rows(length) for layer in self._layers)

    def restore(self, arrays: Arrays, length: int) -> None:
        mixers = [block.mixer for block in self._engine.spec.layers]
        pairs = unpack(arrays, [(a.n_kv_heads, length, a.head_dim) for a in mixers])
        for layer, (keys, values) in zip(self._layers, pairs, strict=True):
            layer.append(0, keys.swapaxes(0, 1), values.swapaxes(0, 1))

    def cancel(self, on: bool) -> None:
        self._cancelled = on

    def close(self) -> None:
        self._layers = []
