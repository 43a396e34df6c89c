"""The decoder's operations as TFLite operators, for a fixed number of tokens per call.

A signature has the inputs and outputs that LiteRT-LM expects: ``tokens`` (1, T) and ``input_pos`` (T,) int32, ``mask``
(1, 1, T, context) float32 (0: attend; a large negative number: do not), and per layer ``kv_cache_k_i``
(1, kv heads, rows, head_dim) and ``kv_cache_v_i`` (1, kv heads, head_dim, rows), which are outputs too. A cache has
a row for each token of the context, or those of the window (oldest first, the newest in the last row).

A call may hold fewer than T tokens: the rest are padding behind them, at position 0.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeslm.converters.litert_weights import Storage, part_names
from edgeslm.converters.tflite_graph import Graph
from edgeslm.spec import Attention, DecoderSpec, tensor_shapes

MASKED = -45824.0  # as LiteRT-LM masks: representable in float16, exp() of it is 0

# The versions from which a runtime computes these; a lower number would let one load them and misread. Version 12
# also keeps out runtimes that do not know weights behind the flatbuffer.
FULLY_CONNECTED = {"float32": 12, "int8": 12, "int4": 13}
EMBEDDING_LOOKUP = {"float32": 1, "int8": 4, "int4": 4}


class LitertBuilder:
    """Records each operation in a graph; values are its tensors, of shape (T, width)."""

    def __init__(
        self,
        spec: DecoderSpec,
        storages: Mapping[str, Storage],
        graph: Graph,
        tokens: int,
        with_logits: bool,
    ) -> None:
        self._spec, self._storages, self._graph = spec, storages, graph
        self._tokens, self._with_logits = tokens, with_logits
        self._shapes = tensor_shapes(spec)
        self._made: dict[Hashable, int] = {}
        self._ids = graph.input("tokens", "int32", (1, tokens))
        self._positions = graph.input("input_pos", "int32", (tokens,))
        self._mask = graph.input("mask", "float32", (1, 1, tokens, spec.context_length))
        self._caches = [
            (
                graph.input(f"kv_cache_k_{i}", "float32", (1, a.n_kv_heads, self._cache_rows(a), a.head_dim)),
                graph.input(f"kv_cache_v_{i}", "float32", (1, a.n_kv_heads, a.head_dim, self._cache_rows(a))),
            )
            for i, a in enumerate(block.mixer for block in spec.layers)
        ]

    def token_ids(self) -> int:
        return self._reshape(self._ids, (self._tokens,))

    def embed(self, ids: int, table: str, scale: float) -> int:
        version = EMBEDDING_LOOKUP[self._storages[table].dtype]
        x = self._graph.op(
            "EMBEDDING_LOOKUP", (ids, self._weight(table)), (self._tokens, self._spec.hidden), version=version
        )
        return x if scale == 1 else self._scaled(x, scale)

    def rms_norm(self, x: int, weight: str, eps: float, groups: int = 1) -> int:
        g, shape = self._graph, self._graph.shape(x)
        if groups > 1:
            x = self._reshape(x, (shape[0], groups, shape[1] // groups))
        inner = g.shape(x)
        axis = g.constant(np.array([len(inner) - 1], np.int32))
        mean = g.op("MEAN", (self._binary("MUL", x, x), axis), (*inner[:-1], 1), keepDims=True)
        inverse = self._unary("RSQRT", self._binary("ADD", mean, self._float(eps)))
        y = self._binary("MUL", self._binary("MUL", x, inverse), self._weight(weight))
        return self._reshape(y, shape) if groups > 1 else y

    def linear(self, x: int, weight: str, bias: bool = False) -> int:
        parts = part_names(weight, self._storages[weight].parts)
        b = self._weight(weight + ".bias") if bias else -1
        width = self._graph.shape(x)[1] // len(parts)
        pieces = [self._slice(x, 1, i * width, width) for i in range(len(parts))] if len(parts) > 1 else [x]
        y = self._product(pieces[0], weight, parts[0], b)
        for piece, part in zip(pieces[1:], parts[1:], strict=True):
            y = self._binary("ADD", y, self._product(piece, weight, part, -1))
        return y

    def attention(self, q: int, k: int, v: int, cache: int, a: Attention) -> int:
        t, kv, width = self._tokens, a.n_kv_heads, a.head_dim
        q = self._rotated(self._heads_first(q, a.n_heads, width), a)
        if a.rope >= 0 and self._spec.ropes[a.rope].q_beta:
            q = self._binary("MUL", q, self._temperature(a.rope))
        q = self._reshape(self._scaled(q, a.scale), (1, kv, a.n_heads // kv * t, width))
        k = self._reshape(self._rotated(self._heads_first(k, kv, width), a), (1, kv, t, width))
        v = self._reshape(self._transposed(self._reshape(v, (t, kv, width)), (1, 2, 0)), (1, kv, width, t))
        if a.window:
            keys, values = self._append_to_window(cache, k, v, a.window)
            mask = self._once(("window mask", a.window), lambda: self._window_mask(a.window))
        else:
            keys, values = self._append_to_full(cache, k, v)
            mask = self._mask
        y = self._attended(q, keys, values, mask, a)
        y = self._transposed(self._reshape(y, (a.n_heads, t, width)), (1, 0, 2))
        return self._reshape(y, (t, a.n_heads * width))

    def act_mul(self, gate: int, up: int, act: str) -> int:
        if act == "silu":
            gate = self._binary("MUL", gate, self._unary("LOGISTIC", gate))
        else:
            gate = self._unary("GELU", gate, approximate=act == "gelu_tanh")
        return self._binary("MUL", gate, up)

    def add(self, x: int, y: int) -> int:
        return self._binary("ADD", x, y)

    def tap(self, x: int, name: str) -> int:
        return x

    def select_rows(self, x: int) -> int:
        return x  # the signature that gives logits takes one token

    def logits(self, x: int, table: str, softcap: float) -> int:
        y = self.linear(x, table)
        if softcap:
            y = self._capped(y, softcap)
        y = self._reshape(y, (1, self._tokens, self._spec.vocab_size))
        if self._with_logits:
            self._graph.output("logits", y)
        return y

    def _product(self, x: int, weight: str, part: str, bias: int) -> int:
        """x times a weight's part, transposed, plus the bias unless that is -1."""
        shape = (self._graph.shape(x)[0], self._shapes[weight][0])
        version = FULLY_CONNECTED[self._storages[weight].dtype]
        inputs = (x, self._weight(weight, part), bias)
        return self._graph.op("FULLY_CONNECTED", inputs, shape, version=version, keepNumDims=True)

    def _attended(self, q: int, keys: int, values: int, mask: int, a: Attention) -> int:
        """q (1, kv heads, heads of each · T, head_dim) over rows of a cache: like q."""
        shape, rows = self._graph.shape(q), self._graph.shape(keys)[2]
        scores = self._graph.op("BATCH_MATMUL", (q, keys), (*shape[:3], rows), adjY=True)
        if a.softcap:
            scores = self._capped(scores, a.softcap)
        scores = self._binary("ADD", self._reshape(scores, (1, a.n_heads, self._tokens, rows)), mask)
        p = self._reshape(self._unary("SOFTMAX", scores, beta=1.0), (*shape[:3], rows))
        return self._graph.op("BATCH_MATMUL", (p, values), shape, adjY=True)

    # Caches

    def _cache_rows(self, a: Attention) -> int:
        return a.window or self._spec.context_length

    def _append_to_full(self, cache: int, k: int, v: int) -> tuple[int, int]:
        """Write rows from the first token's position on. Padding may reach beyond the end: see :meth:`_fitted`."""
        start = self._first_position()
        excess = self._excess() if self._tokens > 1 else None
        if excess is not None:
            start = self._once("start", lambda: self._binary("SUB", self._first_position(), excess))
        grown = []
        for old, new, axis in zip(self._caches[cache], (k, v), (2, 3), strict=True):
            rows = new if excess is None else self._fitted(old, new, axis, excess)
            grown.append(self._updated(old, rows, axis, start))
        self._output_caches(cache, *grown)
        return grown[0], grown[1]

    def _excess(self) -> int:
        """How many of T rows from the first position on lie beyond the context: (1,) int32."""
        last_start = self._int(self._spec.context_length - self._tokens)
        over = self._once("over", lambda: self._binary("SUB", self._first_position(), last_start))
        return self._once("excess", lambda: self._binary("MAXIMUM", over, self._int(0)))

    def _fitted(self, old: int, new: int, axis: int, excess: int) -> int:
        """T rows to write ``excess`` rows earlier: as many of the cache's own rows, then the new ones.

        Only padding falls off the end. Where there is an excess, the rows to keep are among the cache's last T.
        """
        tail = self._slice(old, axis, self._spec.context_length - self._tokens, self._tokens)
        both = self._updated(self._concat((tail, new), axis), new, axis, excess)
        return self._slice(both, axis, 0, self._tokens)

    def _append_to_window(self, cache: int, k: int, v: int, window: int) -> tuple[int, int]:
        """Attend to the window's rows and the new ones; keep the last ones that are no padding."""
        t, kept, joined = self._tokens, [], []
        for old, new, axis in zip(self._caches[cache], (k, v), (2, 3), strict=True):
            rows = self._concat((old, new), axis)
            joined.append(rows)
            if t == 1:
                kept.append(self._slice(rows, axis, 1, window))
            else:  # rows [n, n + window) for n tokens; slices at a fixed place only leave every shape static
                shifted = self._updated(self._concat((rows, new), axis), rows, axis, self._padding())
                kept.append(self._slice(shifted, axis, t, window))
        self._output_caches(cache, *kept)
        return joined[0], joined[1]

    def _output_caches(self, cache: int, k: int, v: int) -> None:
        self._graph.output(f"kv_cache_k_{cache}", k)
        self._graph.output(f"kv_cache_v_{cache}", v)

    def _window_mask(self, window: int) -> int:
        """(1, 1, T, window + T): which rows a token sees of those that were cached, then the new ones."""
        t = self._tokens
        row, token = np.arange(window + t) - window, np.arange(t)[:, None]  # relative to the first token
        sees = (row <= token) & (row > token - window)
        base = self._graph.constant(np.where(sees, 0, MASKED).astype(np.float32)[None, None])
        shape = (window + t,)
        position = self._graph.op(
            "ADD", (self._first_position(), self._graph.constant(row.astype(np.int32))), shape, "int32"
        )
        before = self._graph.op("LESS", (position, self._int(0)), shape, "bool")
        empty = self._binary("MUL", self._graph.cast(before, "float32"), self._float(MASKED))
        return self._binary("ADD", base, empty)

    def _first_position(self) -> int:
        """(1,) int32."""
        return self._once("first", lambda: self._slice(self._positions, 0, 0, 1))

    def _padding(self) -> int:
        """T less the number of tokens: (1,) int32. Tokens stand at rising positions, padding at 0."""

        def make() -> int:
            last = self._graph.op("REDUCE_MAX", (self._positions, self._int(0)), (1,), "int32", keepDims=True)
            before_last = self._binary("SUB", last, self._first_position())
            return self._binary("SUB", self._int(self._tokens - 1), before_last)

        return self._once("padding", make)

    def _updated(self, x: int, rows: int, axis: int, start: int) -> int:
        """``x`` (4 dimensions) with ``rows`` written from ``start`` on along an axis."""

        def make() -> int:
            zeros = [self._graph.constant(np.zeros(n, np.int32)) for n in (axis, 3 - axis) if n]
            return self._graph.op("CONCATENATION", (zeros[0], start, *zeros[1:]), (4,), "int32", axis=0)

        starts = self._once(("starts", start, axis), make)
        return self._graph.op("DYNAMIC_UPDATE_SLICE", (x, rows, starts), self._graph.shape(x))

    # Rotation

    def _rotated(self, x: int, a: Attention) -> int:
        """(heads, T, head_dim): x · cos + (-x₂, x₁) · sin over the rotary width, x being (x₁, x₂)."""
        if a.rope < 0:
            return x
        half = len(self._spec.ropes[a.rope].inv_freq)
        cos = self._once(("cos", a.rope), lambda: self._angles(a.rope, "cos"))
        sin = self._once(("sin", a.rope), lambda: self._angles(a.rope, "sin"))
        first, second = self._slice(x, 2, 0, half), self._slice(x, 2, half, half)
        rotary = x if 2 * half == a.head_dim else self._slice(x, 2, 0, 2 * half)
        swapped = self._concat((second, first), 2)
        y = self._binary("ADD", self._binary("MUL", rotary, cos), self._binary("MUL", swapped, sin))
        if 2 * half == a.head_dim:
            return y
        return self._concat((y, self._slice(x, 2, 2 * half, a.head_dim - 2 * half)), 2)

    def _angles(self, rope: int, function: str) -> int:
        """(1, T, rotary width) of cos, or of sin with its first half negated."""
        half = len(self._spec.ropes[rope].inv_freq)
        rows = self._gathered(f"ropes.{rope}.{function}", half)
        left = self._unary("NEG", rows) if function == "sin" else rows
        return self._reshape(self._concat((left, rows), 1), (1, self._tokens, 2 * half))

    def _temperature(self, rope: int) -> int:
        rows = self._once(("temperature", rope), lambda: self._gathered(f"ropes.{rope}.temperature", 1))
        return self._reshape(rows, (1, self._tokens, 1))

    def _gathered(self, table: str, width: int) -> int:
        """Rows of a table with one for each position of the context: (T, width)."""
        values = self._graph.weight(table, "float32", (self._spec.context_length, width))
        return self._graph.op("GATHER", (values, self._positions), (self._tokens, width))

    # Small parts

    def _weight(self, name: str, part: str = "") -> int:
        """A weight, or one of its parts by its own name."""
        storage, shape = self._storages[name], self._shapes[name]
        shape = (*shape[:-1], shape[-1] // storage.parts)
        return self._graph.weight(part or name, storage.dtype, shape, storage.block)

    def _once(self, key: Hashable, make: Callable[[], int]) -> int:
        """A value that several layers use."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _float(self, value: float) -> int:
        return self._graph.constant(np.array([value], np.float32))

    def _int(self, value: int) -> int:
        return self._graph.constant(np.array([value], np.int32))

    def _ints(self, values: Sequence[int]) -> int:
        return self._graph.constant(np.array(values, np.int32))

    def _scaled(self, x: int, factor: float) -> int:
        return self._binary("MUL", x, self._float(factor))

    def _capped(self, x: int, cap: float) -> int:
        return self._scaled(self._unary("TANH", self._scaled(x, 1 / cap)), cap)

    def _unary(self, kind: str, x: int, **options: Any) -> int:
        return self._graph.op(kind, (x,), self._graph.shape(x), **options)

    def _binary(self, kind: str, x: int, y: int) -> int:
        """With NumPy's broadcasting; of the type of its operands."""
        shape = np.broadcast_shapes(self._graph.shape(x), self._graph.shape(y))
        return self._graph.op(kind, (x, y), shape, self._graph.dtype(x))

    def _reshape(self, x: int, shape: tuple[int, ...]) -> int:
        if shape == self._graph.shape(x):
            return x
        inputs = (x, self._ints(shape))
        return self._graph.op("RESHAPE", inputs, shape, self._graph.dtype(x), newShape=shape)

    def _transposed(self, x: int, order: tuple[int, ...]) -> int:
        """A transposition; one that moves no data, for one token, is a change of shape."""
        old = self._graph.shape(x)
        shape = tuple(old[i] for i in order)
        if self._tokens == 1:
            return self._reshape(x, shape)
        return self._graph.op("TRANSPOSE", (x, self._ints(order)), shape)

    def _heads_first(self, x: int, heads: int, width: int) -> int:
        """(T, heads · width) → (heads, T, width)."""
        return self._transposed(self._reshape(x, (self._tokens, heads, width)), (1, 0, 2))

    def _concat(self, values: Sequence[int], axis: int) -> int:
        shape = list(self._graph.shape(values[0]))
        shape[axis] = sum(self._graph.shape(value)[axis] for value in values)
        return self._graph.op("CONCATENATION", values, shape, self._graph.dtype(values[0]), axis=axis)

    def _slice(self, x: int, axis: int, start: int, size: int) -> int:
        shape = list(self._graph.shape(x))
        begin = [0] * len(shape)
        begin[axis], shape[axis] = start, size
        return self._graph.op("SLICE", (x, self._ints(begin), self._ints(shape)), shape, self._graph.dtype(x))
