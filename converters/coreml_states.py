"""What a Core ML model keeps between calls, as states: tensors of fixed shape that start as zeros, in float16 alone.

Layers with the same window and shape of heads share a pair of states, one row of its first dimension each:

    keyCache, valueCache     of layers without a window, (layers, 1, n_kv_heads, context, head_dim): row p is position p
    keyCache2, valueCache2   … of the next kind. With a window, (layers, 1, n_kv_heads, window, head_dim): the last
                             ``window`` positions, oldest first
    keyCacheLow, …           models that compute in float32: what float16 leaves of each value, in float16 again
    columnZero               (1,): 1 once a token was given under the mask's column 0 (see coreml_builder)

Callers find a model with a cache by the first two names, so they are always there.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeslm.converters.coreml_program import Program, Var, cast
from edgeslm.spec import DecoderSpec

COLUMN_ZERO, LOW = "columnZero", "Low"


@dataclass(frozen=True)
class CacheGroup:
    """Layers that share a pair of states."""

    index: int
    layers: tuple[int, ...]
    window: int
    rows: int
    n_kv_heads: int
    head_dim: int

    @property
    def names(self) -> tuple[str, str]:
        """Of the states of keys and of values."""
        suffix = str(self.index + 1) if self.index else ""
        return "keyCache" + suffix, "valueCache" + suffix

    @property
    def shape(self) -> tuple[int, ...]:
        """Of each of the two states."""
        return (len(self.layers), 1, self.n_kv_heads, self.rows, self.head_dim)


def state_shapes(groups: list[CacheGroup], compute: str) -> dict[str, tuple[int, ...]]:
    """Name → shape of every state of a model that computes in "fp16" or "fp32"."""
    suffixes = ("", LOW) if compute == "fp32" else ("",)
    shapes = {name + suffix: group.shape for group in groups for name in group.names for suffix in suffixes}
    return {**shapes, COLUMN_ZERO: (1,)}


def cache_groups(spec: DecoderSpec) -> list[CacheGroup]:
    """The groups of a decoder: those without a window first."""
    layers: dict[tuple[int, int, int], list[int]] = {}
    for i, block in enumerate(spec.layers):
        a = block.mixer
        layers.setdefault((a.window, a.n_kv_heads, a.head_dim), []).append(i)
    ordered = sorted(layers.items(), key=lambda item: item[0][0] > 0)
    return [
        CacheGroup(i, tuple(members), window, window or spec.context_length, heads, dim)
        for i, ((window, heads, dim), members) in enumerate(ordered)
    ]


class Caches:
    """Records how the states change. Each is read once; later reads are of what was last written to it.

    A second ``read_state`` would be free to return what was there before the write.
    """

    def __init__(
        self, program: Program, groups: list[CacheGroup], compute: str, start: Var, total: Var, tokens: Var
    ) -> None:
        """``start`` positions are there, ``tokens`` come, ``total`` will be: int32 scalars."""
        self._program, self._compute = program, compute
        self._start, self._total, self._tokens = start, total, tokens
        self._group = {layer: group for group in groups for layer in group.layers}
        self._live: dict[str, Var] = {}

    def append(self, layer: int, k: Var, v: Var) -> tuple[Var, Var]:
        """Add k and v (1, n_kv_heads, tokens, head_dim); returns keys and values to attend to, in ``compute``.

        Those are of positions 0..total - 1, or start - window..total - 1 in a layer with a window.
        """
        key, value = (self._append(layer, name, x) for name, x in zip(self._group[layer].names, (k, v), strict=True))
        return key, value

    def _append(self, layer: int, name: str, new: Var) -> Var:
        mb, group = self._program.mb, self._group[layer]
        row = group.layers.index(layer)
        step = self._slide if group.window else self._insert
        high = cast(mb, new, "fp16")
        rows = step(name, group, row, high)
        if self._compute == "fp16":
            return rows
        low = cast(mb, mb.sub(x=cast(mb, new, "fp32"), y=cast(mb, high, "fp32")), "fp16")
        return mb.add(x=cast(mb, rows, "fp32"), y=cast(mb, step(name + LOW, group, row, low), "fp32"))

    def _insert(self, name: str, group: CacheGroup, row: int, new: Var) -> Var:
        mb, head, dim = self._program.mb, group.n_kv_heads, group.head_dim
        begin = mb.concat(values=[row, 0, 0, self._start, 0], axis=0)
        end = mb.concat(values=[row + 1, 1, head, self._total, dim], axis=0)
        now = self._write(name, new, begin, end)
        return mb.slice_by_index(x=now, begin=[row, 0, 0, 0, 0], end=end, squeeze_mask=[True] + [False] * 4)

    def _slide(self, name: str, group: CacheGroup, row: int, new: Var) -> Var:
        mb, head, dim, window = self._program.mb, group.n_kv_heads, group.head_dim, group.window
        begin, end = [row, 0, 0, 0, 0], [row + 1, 1, head, window, dim]
        old = mb.slice_by_index(x=self._read(name), begin=begin, end=end, squeeze_mask=[True] + [False] * 4)
        rows = mb.concat(values=[old, new], axis=2)
        first = mb.concat(values=[0, 0, self._tokens, 0], axis=0)
        self._write(name, mb.slice_by_size(x=rows, begin=first, size=[1, head, window, dim]), begin, end)
        return rows

    def _read(self, name: str) -> Var:
        if name not in self._live:
            self._live[name] = self._program.mb.read_state(input=self._program.argument(name))
        return self._live[name]

    def _write(self, name: str, rows: Var, begin: Var, end: Var) -> Var:
        mb, old = self._program.mb, self._read(name)
        new = mb.slice_update(x=old, update=mb.expand_dims(x=rows, axes=[0]), begin=begin, end=end)
        self._live[name] = mb.coreml_update_state(state=self._program.argument(name), value=new)
        return self._live[name]
