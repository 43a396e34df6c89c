"""The decoder's operations as a Core ML program (MIL, opset of iOS 18), for a prompt of any length.

What can overflow in float16 is float32: the residual stream, norms, rotation, scores and softmax; linears and
activations compute in float16, or in float32 if nothing is quantised. Operations: coremltools, mil/ops/defs.

**Positions.** No input names them; the mask's last dimension tells where the new tokens end. Two ways of calling are
about: Python callers give as many columns as there are tokens, so the first call starts at column 0; swift-transformers
gives one more, so its first call starts at column 1. The first column used is position 0, in both; a state remembers
which it was. A call that starts at column 0 starts a sequence. Causality and windows are the program's own; the mask's
values are added to them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeslm.converters.coreml_program import Input, Interface, Program, Var, cast
from edgeslm.converters.coreml_states import COLUMN_ZERO, Caches, cache_groups, state_shapes
from edgeslm.spec import Attention, DecoderSpec

HIDDEN = np.float32(30000)  # subtracted from a score that must not be seen; finite in float16 too


def interface(spec: DecoderSpec, compute: str) -> Interface:
    """Names and shapes by which swift-transformers and Hugging Face's Python code drive a model."""
    tokens, columns = (1, spec.context_length), (1, spec.context_length + 1)
    return Interface(
        {"inputIds": Input("int32", (1, tokens)), "causalMask": Input("float16", (1, 1, tokens, columns))},
        state_shapes(cache_groups(spec), compute),
    )


class CoremlBuilder:
    """Records each operation in a program; values have shape (1, tokens, width) and are float16 or float32."""

    def __init__(self, spec: DecoderSpec, program: Program, compute: str) -> None:
        """``compute`` is what linears read and write, "fp16" or "fp32". Call within ``with program.function``."""
        self._spec, self._program, self._compute = spec, program, compute
        self._memo: dict[Any, Var] = {}
        self._mb = mb = program.mb
        self._ids, self._given_mask = program.argument("inputIds"), program.argument("causalMask")
        self._tokens = mb.gather(x=mb.shape(x=self._ids), indices=1, axis=0)
        columns = mb.gather(x=mb.shape(x=self._given_mask), indices=3, axis=0)
        self._offset = self._first_column(mb.sub(x=columns, y=self._tokens))
        self._total = mb.sub(x=columns, y=self._offset)
        self._start = mb.sub(x=self._total, y=self._tokens)
        self._positions = mb.range_1d(start=self._start, end=self._total, step=1)
        self._caches = Caches(program, cache_groups(spec), compute, self._start, self._total, self._tokens)

    def token_ids(self) -> Var:
        return self._ids

    def embed(self, ids: Var, table: str, scale: float) -> Var:
        x = self._float32(self._mb.gather(x=self._program.weight(table), indices=ids, axis=0))
        return x if scale == 1 else self._mb.mul(x=x, y=np.float32(scale))

    def rms_norm(self, x: Var, weight: str, eps: float, groups: int = 1) -> Var:
        mb, x, width = self._mb, self._float32(x), x.shape[-1]
        if groups > 1:
            x = mb.reshape(x=x, shape=[1, -1, groups, width // groups])
        mean_square = mb.reduce_mean(x=mb.mul(x=x, y=x), axes=[-1], keep_dims=True)
        x = mb.mul(x=x, y=mb.rsqrt(x=mean_square, epsilon=np.float32(eps)))
        x = mb.mul(x=x, y=self._program.weight(weight))
        return mb.reshape(x=x, shape=[1, -1, width]) if groups > 1 else x

    def linear(self, x: Var, weight: str, bias: bool = False) -> Var:
        return self._linear(x, weight, **({"bias": self._program.weight(weight + ".bias")} if bias else {}))

    def attention(self, q: Var, k: Var, v: Var, cache: int, a: Attention) -> Var:
        mb, group = self._mb, a.n_heads // a.n_kv_heads
        q, k, v = (self._heads(x, n, a) for x, n in ((q, a.n_heads), (k, a.n_kv_heads), (v, a.n_kv_heads)))
        q, k = self._rotate(q, k, a)
        q = mb.reshape(x=self._cast(q, self._compute), shape=[1, a.n_kv_heads, -1, a.head_dim])
        keys, values = self._caches.append(cache, k, v)
        scores = self._float32(mb.matmul(x=q, y=keys, transpose_y=True))
        if a.softcap:
            scores = self._cap(scores, a.softcap)
        scores = self._reshape(scores, a.n_kv_heads, group, self._tokens, -1)
        shares = mb.softmax(x=mb.add(x=scores, y=self._mask(a.window)), axis=-1)
        shares = self._reshape(self._cast(shares, self._compute), 1, a.n_kv_heads, self._rows(group), -1)
        y = mb.matmul(x=shares, y=values)
        y = self._reshape(y, 1, a.n_heads, self._tokens, a.head_dim)
        return mb.reshape(x=mb.transpose(x=y, perm=[0, 2, 1, 3]), shape=[1, -1, a.n_heads * a.head_dim])

    def act_mul(self, gate: Var, up: Var, act: str) -> Var:
        if act == "silu":
            gate = self._mb.silu(x=gate)
        else:
            gate = self._mb.gelu(x=gate, mode="TANH_APPROXIMATION" if act == "gelu_tanh" else "EXACT")
        return self._mb.mul(x=gate, y=up)

    def add(self, x: Var, y: Var) -> Var:
        return self._mb.add(x=self._float32(x), y=self._float32(y))

    def tap(self, x: Var, name: str) -> Var:
        return x

    def select_rows(self, x: Var) -> Var:
        return x  # swift-transformers takes the last row itself

    def logits(self, x: Var, table: str, softcap: float) -> Var:
        if not softcap:
            return self._linear(x, table, name="logits")
        y = self._cap(self._float32(self._linear(x, table)), softcap)
        return self._mb.cast(x=y, dtype=self._compute, name="logits")

    def _linear(self, x: Var, weight: str, **arguments: Any) -> Var:
        return self._mb.linear(x=self._cast(x, self._compute), weight=self._program.weight(weight), **arguments)

    def _first_column(self, column: Var) -> Var:
        """The mask's column of position 0, given that of the first new token: 0 or 1, int32 scalar."""
        mb, state = self._mb, self._program.argument(COLUMN_ZERO)
        before = mb.greater(x=mb.read_state(input=state), y=np.float16(0.5))
        used = mb.logical_or(x=before, y=mb.equal(x=mb.expand_dims(x=column, axes=[0]), y=0))
        mb.coreml_update_state(state=state, value=mb.cast(x=used, dtype="fp16"))
        return mb.squeeze(x=mb.sub(x=1, y=mb.cast(x=used, dtype="int32")), axes=[0])

    def _heads(self, x: Var, n: int, a: Attention) -> Var:
        """(1, tokens, n · head_dim) → (1, n, tokens, head_dim)."""
        x = self._mb.reshape(x=x, shape=[1, -1, n, a.head_dim])
        return self._mb.transpose(x=x, perm=[0, 2, 1, 3])

    def _rotate(self, q: Var, k: Var, a: Attention) -> tuple[Var, Var]:
        """Both rotated; q also scaled, so that its product with k is a score and no more than that can overflow."""
        mb, q = self._mb, self._float32(q)
        q = mb.mul(x=q, y=np.float32(a.scale))
        if a.rope < 0:
            return q, k
        if self._spec.ropes[a.rope].q_beta:
            q = mb.mul(x=q, y=self._at_positions(f"ropes.{a.rope}.temperature"))
        half = len(self._spec.ropes[a.rope].inv_freq)
        return self._rotated(q, half, a), self._rotated(self._float32(k), half, a)

    def _rotated(self, x: Var, half: int, a: Attention) -> Var:
        mb, rest = self._mb, a.head_dim - 2 * half
        cos, sin = (self._at_positions(f"ropes.{a.rope}.{part}") for part in ("cos", "sin"))
        low, high, *others = mb.split(x=x, split_sizes=[half, half] + ([rest] if rest else []), axis=-1)
        first = mb.sub(x=mb.mul(x=low, y=cos), y=mb.mul(x=high, y=sin))
        second = mb.add(x=mb.mul(x=high, y=cos), y=mb.mul(x=low, y=sin))
        return mb.concat(values=[first, second, *others], axis=-1)

    def _at_positions(self, table: str) -> Var:
        """(tokens, width) of a constant table, once for all layers."""

        def gather() -> Var:
            return self._mb.gather(x=self._program.constant(table), indices=self._positions, axis=0)

        return self._once(table, gather)

    def _mask(self, window: int) -> Var:
        """(1, 1, tokens, keys) float32 to add to scores, once for all layers; keys as the cache returns them."""
        return self._once(("mask", window), lambda: self._make_mask(window))

    def _make_mask(self, window: int) -> Var:
        mb = self._mb
        first = mb.sub(x=self._start, y=window) if window else 0
        keys = mb.range_1d(start=first, end=self._total, step=1)
        distance = mb.sub(x=mb.expand_dims(x=self._positions, axes=[1]), y=mb.expand_dims(x=keys, axes=[0]))
        seen = mb.greater_equal(x=distance, y=0)
        if window:
            held = mb.expand_dims(x=mb.greater_equal(x=keys, y=0), axes=[0])
            seen = mb.logical_and(x=mb.logical_and(x=seen, y=mb.less(x=distance, y=window)), y=held)
            keys = mb.maximum(x=keys, y=0)
        own = mb.mul(x=mb.sub(x=mb.cast(x=seen, dtype="fp32"), y=np.float32(1)), y=HIDDEN)
        given = mb.gather(x=self._given_mask, indices=mb.add(x=keys, y=self._offset), axis=3)
        return mb.add(x=self._float32(given), y=own)

    def _rows(self, group: int) -> Var:
        """group · tokens, int32 scalar."""
        return self._once(("rows", group), lambda: self._mb.mul(x=self._tokens, y=group))

    def _reshape(self, x: Var, *shape: int | Var) -> Var:
        """To a shape with numbers known only at run time."""
        return self._mb.reshape(x=x, shape=self._mb.concat(values=list(shape), axis=0))

    def _cap(self, x: Var, cap: float) -> Var:
        mb = self._mb
        return mb.mul(x=mb.tanh(x=mb.mul(x=x, y=np.float32(1 / cap))), y=np.float32(cap))

    def _float32(self, x: Var) -> Var:
        return self._cast(x, "fp32")

    def _cast(self, x: Var, dtype: str) -> Var:
        """``x`` as another type; cast once, however many read it."""
        return self._once((x.name, dtype), lambda: cast(self._mb, x, dtype))

    def _once(self, key: Any, make: Callable[[], Var]) -> Var:
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]
