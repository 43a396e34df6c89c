"""The ten operations that a target implements, with their shapes.

``m`` is the number of rows (tokens) of one forward pass; a value is opaque to the decoder and has shape (m, width),
float32 unless stated. Weights go by canonical name (:func:`edgeslm.spec.tensor_shapes`); matrices are (outputs,
inputs).
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from edgeslm.errors import ModelFormatError
from edgeslm.spec import Attention, DecoderSpec, tensor_shapes

Value = TypeVar("Value")


class Builder(Protocol[Value]):
    """What :func:`edgeslm.decoder.build` calls. Constructors take rows, rope regime and which logits are wanted."""

    def token_ids(self) -> Value:
        """(m,) int32."""

    def embed(self, ids: Value, table: str, scale: float) -> Value:
        """Rows of ``table`` (vocab, hidden) times ``scale``: (m, hidden)."""

    def rms_norm(self, x: Value, weight: str, eps: float, groups: int = 1) -> Value:
        """x / sqrt(mean(x²) + eps) · weight over each of ``groups`` equal slices of the width.

        ``weight`` has width / groups values; the same for each slice.
        """

    def linear(self, x: Value, weight: str, bias: bool = False) -> Value:
        """x Wᵀ (+ ``weight + ".bias"``): (m, inputs) → (m, outputs)."""

    def attention(self, q: Value, k: Value, v: Value, cache: int, a: Attention) -> Value:
        """Rotate q and k, append k and v to ``cache`` (the producer's layer), attend causally.

        q: (m, n_heads · head_dim); k, v: (m, n_kv_heads · head_dim); result like q. The cached row is the
        normalised, rotated k.
        """

    def act_mul(self, gate: Value, up: Value, act: str) -> Value:
        """act(gate) · up, elementwise."""

    def add(self, x: Value, y: Value) -> Value:
        """x + y, equal widths."""

    def tap(self, x: Value, name: str) -> Value:
        """Identity; a place to look at ``x``."""

    def select_rows(self, x: Value) -> Value:
        """The rows whose logits are wanted."""

    def logits(self, x: Value, table: str, softcap: float) -> Value:
        """x Wᵀ, then softcap · tanh(· / softcap) unless 0: (rows wanted, vocab) float32."""


class ShapeBuilder:
    """The contract made executable: values are widths, and each call is checked against the spec's tensors.

    Walking a decoder with it proves that the operations fit together and use every tensor exactly once.
    """

    def __init__(self, spec: DecoderSpec) -> None:
        self._shapes = tensor_shapes(spec)
        self._spec = spec
        self.used: list[str] = []

    def _use(self, name: str, *expected: int) -> int:
        """Note that a tensor is read, check its trailing dimensions, and return its first."""
        shape = self._shapes.get(name)
        if shape is None or shape[len(shape) - len(expected) :] != expected:
            raise ModelFormatError(f"{name}: expected trailing shape {expected}, found {shape}")
        self.used.append(name)
        return shape[0]

    def token_ids(self) -> int:
        return 1

    def embed(self, ids: int, table: str, scale: float) -> int:
        self._use(table, self._spec.hidden)
        return self._spec.hidden

    def rms_norm(self, x: int, weight: str, eps: float, groups: int = 1) -> int:
        if x % groups:
            raise ModelFormatError(f"{weight}: width {x} is no multiple of {groups} groups")
        self._use(weight, x // groups)
        return x

    def linear(self, x: int, weight: str, bias: bool = False) -> int:
        outputs = self._use(weight, x)
        if bias:
            self._use(weight + ".bias", outputs)
        return outputs

    def attention(self, q: int, k: int, v: int, cache: int, a: Attention) -> int:
        expected = (a.n_heads * a.head_dim, a.n_kv_heads * a.head_dim, a.n_kv_heads * a.head_dim)
        if (q, k, v) != expected:
            raise ModelFormatError(f"attention {cache}: widths {(q, k, v)}, expected {expected}")
        return q

    def act_mul(self, gate: int, up: int, act: str) -> int:
        return self.add(gate, up)

    def add(self, x: int, y: int) -> int:
        if x != y:
            raise ModelFormatError(f"widths differ: {x} and {y}")
        return x

    def tap(self, x: int, name: str) -> int:
        return x

    def select_rows(self, x: int) -> int:
        return x

    def logits(self, x: int, table: str, softcap: float) -> int:
        if table in self.used:  # tied to the embedding
            self.used.remove(table)
        return self._use(table, x)
