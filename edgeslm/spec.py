"""What a decoder is, as data: a small tree of frozen dataclasses that every builder reads.

A field is orthogonal, serves a shipped family, and a builder that cannot honour it raises; it never ignores it.
Whatever a checkpoint can fold into its weights (norm offsets, residual and logit multipliers) is folded by the
converter and has no field here.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, get_type_hints

from edgeslm.errors import ModelFormatError

ACTIVATIONS = ("silu", "gelu", "gelu_tanh")
QK_NORMS = ("", "head", "full")

# Far above any model of 10 B parameters; they keep arithmetic on sizes of a hostile spec within 63 bits.
MAX_LAYERS, MAX_WIDTH, MAX_VOCAB, MAX_CONTEXT = 1024, 1 << 20, 1 << 24, 1 << 24


@dataclass(frozen=True)
class Rope:
    """Rotary embedding with every rope kind resolved to frequencies; the rotary width is ``2 * len(inv_freq)``."""

    inv_freq: tuple[float, ...]
    scale: float = 1.0  # multiplies cos and sin (yarn, longrope)
    long_inv_freq: tuple[float, ...] = ()  # longrope: used by sessions that may exceed switch_at
    long_scale: float = 1.0
    switch_at: int = 0
    q_beta: float = 0.0  # q *= 1 + q_beta * ln(1 + floor(position / q_period))
    q_period: int = 0


@dataclass(frozen=True)
class Attention:
    """Causal grouped-query attention."""

    n_heads: int
    n_kv_heads: int
    head_dim: int
    scale: float  # multiplies q·k; always explicit
    rope: int = -1  # index into DecoderSpec.ropes; -1: no rotation
    window: int = 0  # tokens seen, the token itself included; 0: all
    qk_norm: str = ""  # RMS norm of q and k before rotation: "", per "head", over the "full" width
    softcap: float = 0.0  # scores become softcap * tanh(score / softcap); 0: none
    qkv_bias: bool = False
    out_bias: bool = False


@dataclass(frozen=True)
class Mlp:
    """Gated feed-forward: down(act(gate x) * up x)."""

    inner: int
    act: str = "silu"
    bias: bool = False


@dataclass(frozen=True)
class Block:
    """One layer: a mixer and an MLP, each added to the residual, normalised before and/or after."""

    mixer: Attention
    mlp: Mlp
    norm_in: bool = True
    norm_out: bool = False


@dataclass(frozen=True)
class DecoderSpec:
    """A decoder-only transformer: distinct blocks listed once, laid out by index."""

    vocab_size: int
    hidden: int
    norm_eps: float
    context_length: int
    blocks: tuple[Block, ...]
    layout: tuple[int, ...]
    ropes: tuple[Rope, ...]
    tied: bool = False  # the output head is the embedding table
    embed_scale: float = 1.0
    logit_softcap: float = 0.0
    residual_scale: float = 1.0  # the residual stream is carried multiplied by this (fp16 targets)

    @property
    def layers(self) -> tuple[Block, ...]:
        """The block of each layer, in order."""
        return tuple(self.blocks[i] for i in self.layout)

    def __post_init__(self) -> None:
        problems = _problems(self)
        if problems:
            raise ModelFormatError("invalid decoder spec: " + "; ".join(problems))

    def with_context(self, context_length: int) -> DecoderSpec:
        """The same decoder for another context length; windows that no longer bind become full attention."""
        blocks = tuple(
            dataclasses.replace(b, mixer=dataclasses.replace(b.mixer, window=0))
            if b.mixer.window >= context_length
            else b
            for b in self.blocks
        )
        distinct = tuple(dict.fromkeys(blocks))
        return dataclasses.replace(
            self,
            context_length=context_length,
            blocks=distinct,
            layout=tuple(distinct.index(blocks[i]) for i in self.layout),
        )


def tensor_shapes(spec: DecoderSpec) -> dict[str, tuple[int, ...]]:
    """Canonical name → shape of every weight a converter must fill. Matrices are (outputs, inputs)."""
    shapes: dict[str, tuple[int, ...]] = {"embed": (spec.vocab_size, spec.hidden)}
    for i, block in enumerate(spec.layers):
        a, m, p = block.mixer, block.mlp, f"layers.{i}."
        q_width, kv_width = a.n_heads * a.head_dim, a.n_kv_heads * a.head_dim
        for name, width in (("q", q_width), ("k", kv_width), ("v", kv_width)):
            shapes[f"{p}attn.{name}"] = (width, spec.hidden)
            if a.qkv_bias:
                shapes[f"{p}attn.{name}.bias"] = (width,)
        if a.qk_norm:
            shapes[p + "attn.q_norm"] = (a.head_dim if a.qk_norm == "head" else q_width,)
            shapes[p + "attn.k_norm"] = (a.head_dim if a.qk_norm == "head" else kv_width,)
        shapes[p + "attn.o"] = (spec.hidden, q_width)
        if a.out_bias:
            shapes[p + "attn.o.bias"] = (spec.hidden,)
        for name, shape in (
            ("gate", (m.inner, spec.hidden)),
            ("up", (m.inner, spec.hidden)),
            ("down", (spec.hidden, m.inner)),
        ):
            shapes[f"{p}mlp.{name}"] = shape
            if m.bias:
                shapes[f"{p}mlp.{name}.bias"] = shape[:1]
        for present, suffix in ((block.norm_in, "norm_in"), (block.norm_out, "norm_out")):
            if present:
                shapes[f"{p}attn.{suffix}"] = (spec.hidden,)
                shapes[f"{p}mlp.{suffix}"] = (spec.hidden,)
    shapes["norm"] = (spec.hidden,)
    if not spec.tied:
        shapes["head"] = (spec.vocab_size, spec.hidden)
    return shapes


def parameter_count(spec: DecoderSpec) -> int:
    """Number of weights, tied ones counted once."""
    return sum(math.prod(shape) for shape in tensor_shapes(spec).values())


def spec_to_json(spec: DecoderSpec) -> dict[str, Any]:
    """The spec as JSON values (tuples become lists)."""
    return dataclasses.asdict(spec)


def spec_from_json(value: object) -> DecoderSpec:
    """Read what :func:`spec_to_json` wrote, trusting nothing.

    Raises:
        ModelFormatError: a field is missing, unknown, of another type, or out of range.
    """
    spec = _read(DecoderSpec, value, "spec")
    assert isinstance(spec, DecoderSpec)
    return spec


_ITEM_TYPES: dict[str, type] = {
    "inv_freq": float,
    "long_inv_freq": float,
    "layout": int,
    "blocks": Block,
    "ropes": Rope,
}


def _read(kind: type, value: object, where: str) -> Any:
    if not dataclasses.is_dataclass(kind):
        return _scalar(kind, value, where)
    if not isinstance(value, dict):
        raise ModelFormatError(f"{where}: expected an object, found {type(value).__name__}")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise ModelFormatError(f"{where}: unknown fields {unknown}; this bundle needs a newer edgeslm")
    hints, arguments = get_type_hints(kind), {}
    for name, field in fields.items():
        if name not in value:
            if field.default is dataclasses.MISSING:
                raise ModelFormatError(f"{where}.{name}: missing")
        elif name in _ITEM_TYPES:
            if not isinstance(value[name], list):
                raise ModelFormatError(f"{where}.{name}: expected a list, found {type(value[name]).__name__}")
            arguments[name] = tuple(
                _read(_ITEM_TYPES[name], item, f"{where}.{name}[{i}]") for i, item in enumerate(value[name])
            )
        else:
            arguments[name] = _read(hints[name], value[name], f"{where}.{name}")
    return kind(**arguments)


def _scalar(kind: type, value: object, where: str) -> object:
    if kind is float and type(value) is int and abs(value) < 1 << 53:
        return float(value)
    if type(value) is not kind:
        raise ModelFormatError(f"{where}: expected {kind.__name__}, found {type(value).__name__}")
    return value


def _problems(s: DecoderSpec) -> list[str]:
    found: list[str] = []

    def need(condition: bool, message: str) -> None:
        if not condition:
            found.append(message)

    def finite(value: float, low: float, high: float = math.inf) -> bool:
        return math.isfinite(value) and low <= value <= high

    need(0 < s.vocab_size <= MAX_VOCAB, f"vocab_size {s.vocab_size} is not in 1..{MAX_VOCAB}")
    need(0 < s.hidden <= MAX_WIDTH, f"hidden {s.hidden} is not in 1..{MAX_WIDTH}")
    need(0 < s.context_length <= MAX_CONTEXT, f"context_length {s.context_length} is not in 1..{MAX_CONTEXT}")
    need(0 < len(s.layout) <= MAX_LAYERS, f"{len(s.layout)} layers, not 1..{MAX_LAYERS}")
    need(finite(s.norm_eps, 0.0, 1.0), f"norm_eps {s.norm_eps} is not in 0..1")
    need(finite(s.embed_scale, 0.0) and s.embed_scale > 0, f"embed_scale {s.embed_scale} is not positive")
    need(finite(s.logit_softcap, 0.0), f"logit_softcap {s.logit_softcap} is negative")
    need(finite(s.residual_scale, 0.0, 1.0) and s.residual_scale > 0, "residual_scale is not in (0, 1]")
    need(set(s.layout) == set(range(len(s.blocks))), "layout does not use every block, or names a missing one")
    for i, rope in enumerate(s.ropes):
        found.extend(f"ropes[{i}]: {p}" for p in _rope_problems(rope))
    for i, block in enumerate(s.blocks):
        found.extend(f"blocks[{i}]: {p}" for p in _block_problems(block, s))
    return found


def _rope_problems(r: Rope) -> list[str]:
    checks = (
        (0 < len(r.inv_freq) <= MAX_WIDTH, "no frequencies"),
        (all(math.isfinite(f) and f >= 0 for f in r.inv_freq + r.long_inv_freq), "a frequency is not finite"),
        (all(math.isfinite(f) and f > 0 for f in (r.scale, r.long_scale)), "a scale is not positive"),
        (len(r.long_inv_freq) in (0, len(r.inv_freq)), "the long vector differs in length"),
        (bool(r.long_inv_freq) == (r.switch_at > 0), "a long vector and switch_at need each other"),
        (0 <= r.switch_at <= MAX_CONTEXT, "switch_at is out of range"),
        (math.isfinite(r.q_beta) and (r.q_beta != 0) == (r.q_period > 0), "q_beta and q_period need each other"),
    )
    return [message for good, message in checks if not good]


def _block_problems(b: Block, s: DecoderSpec) -> list[str]:
    a = b.mixer
    checks = (
        (0 < a.n_kv_heads <= a.n_heads and a.n_heads % a.n_kv_heads == 0, "heads are not a multiple of kv heads"),
        (a.head_dim > 0 and a.n_heads * a.head_dim <= MAX_WIDTH, "head_dim is out of range"),
        (math.isfinite(a.scale) and a.scale > 0, f"attention scale {a.scale} is not positive"),
        (-1 <= a.rope < len(s.ropes), f"rope index {a.rope} is out of range"),
        (
            not 0 <= a.rope < len(s.ropes) or 2 * len(s.ropes[a.rope].inv_freq) <= a.head_dim,
            "rotary wider than the head",
        ),
        (0 <= a.window < s.context_length, f"window {a.window} is not in 0..context_length - 1"),
        (a.qk_norm in QK_NORMS, f"qk_norm {a.qk_norm!r} is not one of {QK_NORMS}"),
        (math.isfinite(a.softcap) and a.softcap >= 0, "softcap is negative"),
        (0 < b.mlp.inner <= MAX_WIDTH, "inner is out of range"),
        (b.mlp.act in ACTIVATIONS, f"activation {b.mlp.act!r} is not one of {ACTIVATIONS}"),
        (b.norm_in or b.norm_out, "a branch without any norm"),
        (b.norm_in or s.residual_scale == 1, "residual_scale needs norm_in"),
    )
    return [message for good, message in checks if not good]
