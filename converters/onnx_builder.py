"""The decoder's operations as onnxruntime's contrib operators.

All activations are float32. Quantised weights feed MatMulNBits and GatherBlockQuantized; float weights stay
(outputs, inputs) through FusedMatMul(transB=1), so that other engines map the same bytes. Operators: onnxruntime,
docs/ContribOperators.md.
"""

from __future__ import annotations

from typing import Literal

from edgeslm.converters.data_file import DataPlan
from edgeslm.converters.onnx_graph import CONTRIB, Graph
from edgeslm.formats import FORMATS
from edgeslm.manifest import TensorEntry
from edgeslm.spec import Attention, DecoderSpec

Rows = Literal["last", "all"]

INT8_ACTIVATIONS = 4  # MatMulNBits' accuracy_level
BITS = {"q4": 4, "q8": 8}


def padded_head_dim(a: Attention) -> int:
    """Width of a cached row: GroupQueryAttention takes multiples of 8, and added zeros change nothing."""
    return -(-a.head_dim // 8) * 8


class OnnxBuilder:
    """Records each operation in a graph; values are names. Shapes have a leading batch dimension of 1."""

    def __init__(self, spec: DecoderSpec, plan: DataPlan, graph: Graph, rows: Rows, accuracy_level: int) -> None:
        self._spec, self._plan, self._graph, self._rows = spec, plan, graph, rows
        self._accuracy_level = accuracy_level
        g = graph
        self._ids = g.input("input_ids", "int64", (1, "tokens"))
        mask = g.input("attention_mask", "int64", (1, "total"))
        total = g.op("ReduceSum", mask, g.constant([1]), keepdims=0)
        self._last_position = g.cast(g.op("Sub", total, g.constant([1])), "int32")
        self._total = g.cast(g.op("Gather", g.op("Shape", mask), g.constant(1)), "int32")
        self._positions = ""

    def token_ids(self) -> str:
        return self._ids

    def embed(self, ids: str, table: str, scale: float) -> str:
        g, entry = self._graph, self._plan.tensors[table]
        if entry.format in BITS:
            x = self._embed_quantized(ids, table)
        else:
            x = self._float32(g.op("Gather", self._part(table, "data"), ids), entry)
        return x if scale == 1 else g.op("Mul", x, g.constant(float(scale)))

    def rms_norm(self, x: str, weight: str, eps: float, groups: int = 1) -> str:
        g = self._graph
        if groups > 1:
            x = g.op("Reshape", x, g.constant([0, 0, groups, -1]))
        w = self._part(weight, "data")
        x = g.op("SimplifiedLayerNormalization", x, w, axis=-1, epsilon=eps, stash_type=1)
        return g.op("Reshape", x, g.constant([0, 0, -1])) if groups > 1 else x

    def linear(self, x: str, weight: str, bias: bool = False) -> str:
        g, entry = self._graph, self._plan.tensors[weight]
        b = self._part(weight + ".bias", "data") if bias else ""
        if entry.format in BITS:
            return self._linear_quantized(x, weight, b)
        w = self._float32(self._part(weight, "data"), entry)
        y = g.op("FusedMatMul", x, w, domain=CONTRIB, transB=1)
        return g.op("Add", y, b) if bias else y

    def attention(self, q: str, k: str, v: str, cache: int, a: Attention) -> str:
        g, width = self._graph, padded_head_dim(a)
        q, k, tables = self._rotate(q, k, a)
        if width != a.head_dim:
            q, k, v = (self._pad_heads(x, h, a) for x, h in ((q, a.n_heads), (k, a.n_kv_heads), (v, a.n_kv_heads)))
        # The layout of a bounded cache is the operator's own; the names of its dimension tell engines which it is.
        past_dim, present_dim = ("past_window", "window") if a.window else ("past", "capacity")
        past = [f"past_key_values.{cache}.{part}" for part in ("key", "value")]
        present = [f"present.{cache}.{part}" for part in ("key", "value")]
        for name_in, name_out in zip(past, present, strict=True):
            g.input(name_in, "float32", (1, a.n_kv_heads, past_dim, width))
            g.output(name_out, "float32", (1, a.n_kv_heads, present_dim, width))
        y = f"attention_{cache}"
        g.node(
            "GroupQueryAttention",
            (q, k, v, *past, self._last_position, self._total, *tables),
            (y, *present),
            CONTRIB,
            num_heads=a.n_heads,
            kv_num_heads=a.n_kv_heads,
            scale=a.scale,
            softcap=a.softcap,
            **({"local_window_size": a.window, "sliding_window_cache": 1} if a.window else {}),
            do_rotary=int(bool(tables)),
        )
        return y if width == a.head_dim else self._cut_heads(y, a)

    def act_mul(self, gate: str, up: str, act: str) -> str:
        g = self._graph
        if act == "silu":
            gate = g.op("Mul", gate, g.op("Sigmoid", gate))
        else:
            gate = g.op("Gelu", gate, approximate="tanh" if act == "gelu_tanh" else "none")
        return g.op("Mul", gate, up)

    def add(self, x: str, y: str) -> str:
        return self._graph.op("Add", x, y)

    def tap(self, x: str, name: str) -> str:
        return x

    def select_rows(self, x: str) -> str:
        if self._rows == "all":
            return x
        g = self._graph
        return g.op("Slice", x, g.constant([-1]), g.constant([2**31 - 1]), g.constant([1]))

    def logits(self, x: str, table: str, softcap: float) -> str:
        g, y = self._graph, self.linear(x, table)
        if softcap:
            cap = g.constant(float(softcap))
            y = g.op("Mul", g.op("Tanh", g.op("Div", y, cap)), cap)
        g.node("Identity", (y,), ("logits",))
        # onnxruntime-genai takes last-row logits only if that dimension is declared as 1.
        g.output("logits", "float32", (1, 1 if self._rows == "last" else "tokens", self._spec.vocab_size))
        return "logits"

    def _part(self, name: str, part: str, shape: tuple[int, ...] | None = None) -> str:
        """A stored part as an initialiser; another ``shape`` is another view of the same bytes."""
        entry = self._plan.tensors[name]
        stored = FORMATS[entry.format].layout(entry.shape, entry.group_size)[part]
        label = name if part == "data" else f"{name}.{part}"
        if shape is not None:
            label += ".rows"
        return self._graph.external(label, stored.dtype, shape or stored.shape, entry.parts[part])

    def _float32(self, x: str, entry: TensorEntry) -> str:
        return self._graph.cast(x, "float32") if entry.format == "f16" else x

    def _constant(self, name: str) -> str:
        constant = self._plan.constants[name]
        return self._graph.external(name, constant.values.dtype, constant.values.shape, constant.part)

    def _embed_quantized(self, ids: str, table: str) -> str:
        g, entry = self._graph, self._plan.tensors[table]
        rows, hidden = entry.shape
        data = self._part(table, "data", (rows, entry.parts["data"].bytes // rows))
        x = g.op(
            "GatherBlockQuantized",
            data,
            ids,
            self._part(table, "scales"),
            domain=CONTRIB,
            gather_axis=0,
            quantize_axis=1,
            block_size=entry.group_size,
            bits=BITS[entry.format],
        )
        if hidden % entry.group_size == 0:
            return x
        return g.op("Slice", x, g.constant([0]), g.constant([hidden]), g.constant([-1]))  # the last group's padding

    def _linear_quantized(self, x: str, weight: str, bias: str) -> str:
        entry = self._plan.tensors[weight]
        inputs = [x, self._part(weight, "data"), self._part(weight, "scales")]
        return self._graph.op(
            "MatMulNBits",
            *inputs,
            *(("", "", bias) if bias else ()),
            domain=CONTRIB,
            N=entry.shape[0],
            K=entry.shape[1],
            bits=BITS[entry.format],
            block_size=entry.group_size,
            accuracy_level=self._accuracy_level,
        )

    def _rotate(self, q: str, k: str, a: Attention) -> tuple[str, str, tuple[str, ...]]:
        """q and k, and the tables with which GroupQueryAttention has yet to rotate them, if it can.

        Its fused rotation takes head_dim % 16 = 0 and tables of a width % 8 = 0 only.
        """
        if a.rope < 0:
            return q, k, ()
        g, rope = self._graph, self._spec.ropes[a.rope]
        half, name = len(rope.inv_freq), f"ropes.{a.rope}"
        if rope.q_beta:  # rotation is linear: queries may be scaled before it
            rows = g.op("Gather", self._constant(name + ".temperature"), self._position_ids())
            q = g.op("Mul", q, rows)
        tables = self._constant(name + ".cos"), self._constant(name + ".sin")
        if a.head_dim % 16 == 0 and half % 8 == 0:
            return q, k, tables
        width = 2 * half if 2 * half < a.head_dim else 0  # 0: the whole head
        q, k = (
            g.op(
                "RotaryEmbedding",
                x,
                self._position_ids(),
                *tables,
                domain=CONTRIB,
                num_heads=heads,
                rotary_embedding_dim=width,
            )
            for x, heads in ((q, a.n_heads), (k, a.n_kv_heads))
        )
        return q, k, ()

    def _position_ids(self) -> str:
        """(1, tokens) int64: positions of the new tokens, the last ones of the total."""
        if not self._positions:
            g = self._graph
            total = g.cast(self._total, "int64")
            tokens = g.op("Gather", g.op("Shape", self._ids), g.constant(1))
            positions = g.op("Range", g.op("Sub", total, tokens), total, g.constant(1))
            self._positions = g.op("Unsqueeze", positions, g.constant([0]))
        return self._positions

    def _pad_heads(self, x: str, heads: int, a: Attention) -> str:
        g = self._graph
        x = g.op("Reshape", x, g.constant([0, 0, heads, a.head_dim]))
        x = g.op("Pad", x, g.constant([0] * 7 + [padded_head_dim(a) - a.head_dim]))
        return g.op("Reshape", x, g.constant([0, 0, -1]))

    def _cut_heads(self, x: str, a: Attention) -> str:
        g = self._graph
        x = g.op("Reshape", x, g.constant([0, 0, a.n_heads, -1]))
        x = g.op("Slice", x, g.constant([0]), g.constant([a.head_dim]), g.constant([-1]))
        return g.op("Reshape", x, g.constant([0, 0, -1]))
